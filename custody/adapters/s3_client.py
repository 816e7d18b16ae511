"""The S3 client of ``boto3``, made for one place, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from custody.adapters.s3_place import S3Place
from custody.errors import ConfigError, ConflictError, CustodyError, DeniedError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["code_of", "connect", "explained"]

_CONNECT: Final = 5  # seconds
_READ: Final = 30  # seconds without an answer
_ATTEMPTS: Final = 5  # botocore waits up to 1, 2, 4, 8 seconds between them, times a random number below 1
_CONNECTIONS: Final = 32

_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion", "NoSuchUpload"})
_EXISTS: Final = frozenset({"412", "PreconditionFailed"})
_BUSY: Final = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
_REFUSED: Final = {
    "NoSuchBucket": "make the bucket, or correct the URL",
    "NoSuchObjectLockConfiguration": "object lock is chosen when a bucket is made: make one with it",
    "ObjectLockConfigurationNotFoundError": "object lock is chosen when a bucket is made: make one with it",
    "PermanentRedirect": "the bucket is in another region: name it with ?region=",
    "AuthorizationHeaderMalformed": "the bucket is in another region: name it with ?region=",
    "301": "the bucket is in another region: name it with ?region=",
    "AccessDenied": "let these credentials read and write the bucket (README: S3)",
    "403": "let these credentials read and write the bucket (README: S3)",
    "InvalidAccessKeyId": "these credentials are not known there",
    "SignatureDoesNotMatch": "the secret key is wrong, or this computer's clock is",
    "RequestTimeTooSkewed": "this computer's clock is wrong",
    "ExpiredToken": "the credentials have ended: renew them",
    "InvalidBucketName": "correct the URL",
    "InvalidRequest": "does this bucket know what was asked? Object lock is chosen when a bucket is made",
    "NotImplemented": "this server does not know what was asked",
}


def connect(place: S3Place) -> "S3Client":
    """Make the client. Nothing is sent yet. ``ConfigError`` without ``boto3``, or for settings that cannot be."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigError("an S3 store needs boto3", hint="pip install 'custody[s3]'") from error
    if place.ca is not None and not place.ca.is_file():
        raise ConfigError(f"{place.ca}: no such file", hint="it should hold the store's CA certificates, PEM")
    try:
        session = boto3.session.Session(profile_name=place.profile, region_name=place.region)
        return session.client(
            "s3",
            endpoint_url=place.endpoint,
            # Many servers that are not AWS accept any region, but one must be signed.
            region_name=session.region_name or ("us-east-1" if place.endpoint else None),
            verify=None if place.ca is None else str(place.ca),
            config=Config(
                signature_version="s3v4",
                connect_timeout=_CONNECT,
                read_timeout=_READ,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=_CONNECTIONS,
                s3={"addressing_style": place.addressing},
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"s3://{place.bucket}: {_line(error)}") from error


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise an error of ``boto3`` as the store error it means; ``what`` is a key, or what was being done."""
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    try:
        yield
    except boto.ClientError as error:
        raise _meaning(error, what) from error
    except boto.SSLError as error:
        hint = "name the file of its CA: ?ca=/path/ca.pem"
        raise ConfigError(f"store: {what}: its certificate is not trusted", hint=hint) from error
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.ProfileNotFound,
        boto.ParamValidationError,
    ) as error:
        raise ConfigError(f"store: {what}: {_line(error)}", hint="give it credentials: see README, S3") from error
    except (boto.BotoCoreError, HTTPError, OSError) as error:
        raise UnavailableError(f"store: {what}: {_line(error)}", hint="is the store's endpoint up?") from error


def code_of(error: Exception) -> str:
    """Return the code of what S3 answered, from the error or what caused it; empty where there is none."""
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(answer["Error"].get("Code", "")) if isinstance(answer, dict) and "Error" in answer else ""


def _meaning(error: Exception, what: str) -> CustodyError:
    code = code_of(error)
    if code in _MISSING:
        return NotFoundError(f"store: there is no {what}")
    if code in _EXISTS:
        return ConflictError(f"store: {what} exists")
    if code in _BUSY:
        return UnavailableError(f"store: {what}: somebody else writes it just now", hint="try again")
    if code in _REFUSED:
        if code in ("AccessDenied", "403") and "lock" in str(error).lower():
            return DeniedError(f"store: {what} is locked against deletion")
        return ConfigError(f"store: {what}: refused ({code})", hint=_REFUSED[code])
    return UnavailableError(f"store: {what}: {_line(error)}")


def _line(error: Exception) -> str:
    """The error in one line that is not too long. ``boto3`` puts no signed URL and no secret into it."""
    return " ".join(str(error).split())[:300] or type(error).__name__
