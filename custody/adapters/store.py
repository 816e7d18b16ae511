"""Which store a URL means.

::

    file:///srv/custody/store     a directory (``store_local``)
    s3://bucket/prefix?region=…   S3, of AWS or not (``store_s3``; ``s3_place`` has all options)
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from custody.adapters.store_local import LocalStore
from custody.adapters.surroundings import Around
from custody.errors import ConfigError
from custody.ports import Store

__all__ = ["open_store"]


def open_store(url: str, around: Around) -> Store:
    """Open the store at ``url``. ``ConfigError`` for a scheme or spelling that is not known, or no such directory.

    A bucket is not asked for before it is used.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"store {url!a}: not a URL") from error
    if parts.scheme == "s3":
        from custody.adapters.s3_place import S3Place
        from custody.adapters.store_s3 import S3Store

        return S3Store(S3Place.parse(url), around)
    if parts.scheme != "file":
        raise ConfigError(
            f"store {url!a}: no store of this kind", hint="use file:///path/to/a/directory, or s3://bucket"
        )
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"store {url!a}: not an absolute path", hint="use file:///path/to/a/directory")
    return LocalStore(Path(path))
