"""Which store a URL means.

::

    file:///srv/custody/store     a directory (``store_local``)
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from custody.adapters.store_local import LocalStore
from custody.errors import ConfigError
from custody.ports import Store

__all__ = ["open_store"]


def open_store(url: str) -> Store:
    """Open the store at ``url``. ``ConfigError`` for a scheme or spelling that is not known, or no such directory."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"store {url!a}: not a URL") from error
    if parts.scheme != "file":
        raise ConfigError(f"store {url!a}: no store of this kind", hint="use file:///path/to/a/directory")
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"store {url!a}: not an absolute path", hint="use file:///path/to/a/directory")
    return LocalStore(Path(path))
