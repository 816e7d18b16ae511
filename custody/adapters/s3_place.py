"""Where an S3 store is, said by a URL.

::

    s3://bucket/some/prefix?region=eu-central-1
    s3://bucket?endpoint=https://s3.example.org:9000&ca=/etc/custody/s3-ca.pem&addressing=path&profile=custody

``endpoint`` is for what is not AWS; ``ca`` a file of PEM certificates instead of the system's; ``addressing`` is
``path`` or ``virtual`` (default: ``path`` where there is an endpoint); ``profile`` a profile of the AWS configuration.
Credentials never stand in it: they come from the standard chain (environment, profile, web identity, role).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from custody.adapters.local_files import split_key
from custody.errors import ConfigError, FormatError

__all__ = ["Addressing", "S3Place"]

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_KNOWN: Final = frozenset({"endpoint", "region", "ca", "addressing", "profile"})
_HINT: Final = "write it such as s3://bucket/prefix?region=eu-central-1, or with endpoint=https://host:port"

Addressing = Literal["path", "virtual"]
"""Where the bucket stands in a URL: in the path, or in the name of the host."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, a prefix (empty, or ending in a slash), and how to reach them."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    ca: Path | None = None
    addressing: Addressing = "virtual"
    profile: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. ``ConfigError`` says what about it is wrong."""
        try:
            parts = urlsplit(url)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise ConfigError(f"store {url!a}: not a URL", hint=_HINT) from error
        if "@" in parts.netloc:
            # The message must not show it.
            raise ConfigError("store: credentials do not belong into a URL", hint="use the standard chain of AWS")
        options = dict(pairs)
        if len(options) != len(pairs) or not options.keys() <= _KNOWN or not all(options.values()) or parts.fragment:
            raise ConfigError(f"store {url!a}: options are {', '.join(sorted(_KNOWN))}, each once", hint=_HINT)
        if _BUCKET.fullmatch(parts.netloc) is None:
            raise ConfigError(f"store {url!a}: not the name of a bucket", hint=_HINT)
        endpoint = options.get("endpoint")
        addressing = options.get("addressing", "path" if endpoint else "virtual")
        if addressing not in ("path", "virtual"):
            raise ConfigError(f"store {url!a}: addressing is path or virtual")
        for name in ("region", "profile"):
            if _WORD.fullmatch(options.get(name, "x")) is None:
                raise ConfigError(f"store {url!a}: not the name of a {name}")
        return cls(
            bucket=parts.netloc,
            prefix=_prefix(unquote(parts.path), url),
            endpoint=_endpoint(endpoint, url) if endpoint else None,
            region=options.get("region"),
            ca=Path(options["ca"]) if "ca" in options else None,
            addressing=cast("Addressing", addressing),
            profile=options.get("profile"),
        )


def _prefix(path: str, url: str) -> str:
    bare = path.strip("/")
    if not bare:
        return ""
    try:
        split_key(bare)
    except FormatError as error:
        hint = "parts of a-z 0-9 . _ - joined by /"
        raise ConfigError(f"store {url!a}: its prefix cannot be one of keys", hint=hint) from error
    return f"{bare}/"


def _endpoint(endpoint: str, url: str) -> str:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"store {url!a}: endpoint must be http(s)://host[:port]", hint=_HINT)
    return endpoint.rstrip("/")
