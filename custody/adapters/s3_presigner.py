"""Requests that others may make to S3 without credentials of their own: ``Presigner`` for S3.

Everything that matters is inside the signature: method, name, version, exact length of what is written, and
``If-None-Match: *`` where nothing may be replaced. ``Range`` of a GET is not, so one URL serves a whole blob.
"""

import calendar
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from custody.adapters.local_files import split_key
from custody.adapters.s3_client import explained
from custody.adapters.s3_place import S3Place
from custody.errors import ConflictError, IntegrityError, NotFoundError
from custody.ports import Pinned, Presigned

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["MAX_SECONDS", "S3Presigner"]

MAX_SECONDS: Final = 900
"""No URL holds for longer."""

_LEAST: Final = 30
_TAG: Final = "etag:"
_ID: Final = "id:"


class S3Presigner:
    """``Presigner`` over one bucket. A version is ``id:`` and S3's version id, or ``etag:`` and the entity tag."""

    def __init__(self, client: "S3Client", place: S3Place) -> None:
        self._client = client
        self._bucket = place.bucket
        self._prefix = place.prefix

    def pin(self, key: str) -> Pinned:
        """See ``Presigner.pin``."""
        name = self._name(key)
        with explained(key):
            head = self._client.head_object(Bucket=self._bucket, Key=name)
        version = head.get("VersionId", "null")
        pinned = f"{_TAG}{head['ETag']}" if version == "null" else f"{_ID}{version}"
        return Pinned(key, head["ContentLength"], pinned)

    def presign_get(self, blob: Pinned, seconds: int) -> Presigned:
        """See ``Presigner.presign_get``."""
        if blob.version.startswith(_ID):
            return self._sign("get_object", blob.key, seconds, {}, VersionId=blob.version.removeprefix(_ID))
        tag = blob.version.removeprefix(_TAG)
        return self._sign("get_object", blob.key, seconds, {"If-Match": tag}, IfMatch=tag)

    def presign_put(self, key: str, size: int, seconds: int) -> Presigned:
        """See ``Presigner.presign_put``."""
        headers = {"If-None-Match": "*", "Content-Length": str(size)}
        return self._sign("put_object", key, seconds, headers, IfNoneMatch="*", ContentLength=size)

    def begin_parts(self, key: str) -> str:
        """See ``Presigner.begin_parts``."""
        name = self._name(key)
        with explained(key):
            return self._client.create_multipart_upload(Bucket=self._bucket, Key=name)["UploadId"]

    def presign_part(self, key: str, upload: str, number: int, size: int, seconds: int) -> Presigned:
        """See ``Presigner.presign_part``."""
        headers = {"Content-Length": str(size)}
        return self._sign("upload_part", key, seconds, headers, UploadId=upload, PartNumber=number, ContentLength=size)

    def finish_parts(self, key: str, upload: str, size: int) -> None:
        """See ``Presigner.finish_parts``."""
        try:
            self._complete(key, upload, size)
        except (ConflictError, NotFoundError):
            # Ended before, its answer lost: S3 has forgotten the upload then. Only its own blob can be there.
            if self.pin(key).size != size:
                raise ConflictError(f"store: {key} exists with other content") from None
            self.abort_parts(key, upload)

    def abort_parts(self, key: str, upload: str) -> None:
        """See ``Presigner.abort_parts``."""
        name = self._name(key)
        try:
            with explained(key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
        except NotFoundError:
            return

    def _complete(self, key: str, upload: str, size: int) -> None:
        name = self._name(key)
        sent = 0
        parts = []
        with explained(key):
            for page in self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=name, UploadId=upload
            ):
                for part in page.get("Parts", []):
                    sent += part["Size"]
                    parts.append({"PartNumber": part["PartNumber"], "ETag": part["ETag"]})
        if sent != size:
            raise IntegrityError(f"store: {key}: {sent} bytes were sent, {size} were announced")
        with explained(key):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=name,
                UploadId=upload,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]  # both are there
                IfNoneMatch="*",
            )

    def _sign(self, operation: Any, key: str, seconds: int, headers: dict[str, str], **wanted: object) -> Presigned:
        if not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"a URL for {seconds} seconds")
        name = self._name(key)
        with explained(key):
            url = self._client.generate_presigned_url(
                operation,
                Params={"Bucket": self._bucket, "Key": name, **wanted},
                ExpiresIn=self._lifetime(seconds),
            )
        return Presigned(url, headers, _end(url))

    def _lifetime(self, seconds: int) -> int:
        """Temporary credentials take their URLs with them: such a URL is signed for as long as they last."""
        credentials = self._client._request_signer._credentials  # type: ignore[attr-defined]  # noqa: SLF001 - no public way leads there
        ends_within = getattr(credentials, "refresh_needed", None)
        if ends_within is not None:
            credentials.get_frozen_credentials()  # renews them first, where it is time
            while seconds > _LEAST and ends_within(refresh_in=seconds):
                seconds = max(_LEAST, seconds // 2)
        return seconds

    def _name(self, key: str) -> str:
        split_key(key)
        return self._prefix + key


def _end(url: str) -> int:
    """When a signed URL ends, seconds since 1970: it says so itself."""
    said = parse_qs(urlsplit(url).query)
    signed = time.strptime(said["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
    return calendar.timegm(signed) + int(said["X-Amz-Expires"][0])
