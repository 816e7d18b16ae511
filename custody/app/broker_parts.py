"""What the broker's configuration names, opened: secrets by URI, stores and databases by URL."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from custody.adapters.store import open_store
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.app.broker_config import BrokerConfig
from custody.broker.context import LockRule
from custody.crypto.secret import SecretBytes
from custody.errors import ConfigError, CustodyError, UnavailableError
from custody.ports import Presigner, Store
from custody.tlog.note import NoteSigner

__all__ = [
    "database_url",
    "direct_access",
    "load_log_signer",
    "load_row_key",
    "lock_rules",
    "secret_file",
    "store_at",
]

_ROW_KEY: Final = 32
_DAY: Final = 24 * 3600


def secret_file(uri: str, folder: Path) -> Path:
    """Return the path behind ``file:PATH``, relative to the configuration's folder. Raises ``ConfigError``."""
    scheme, _, path = uri.partition(":")
    if scheme != "file" or not path:
        raise ConfigError(f"{uri}: not a secret's URI", hint="file:PATH")
    return folder / path


def store_at(url: str, folder: Path) -> Store:
    """Open a store; ``file:relative`` is relative to the configuration. ``ConfigError`` for a bucket that is unfit."""
    scheme, _, path = url.partition(":")
    if scheme == "file" and not path.startswith("//"):
        place = (folder / path).resolve()
        place.mkdir(mode=0o750, parents=True, exist_ok=True)
        url = place.as_uri()
    store = open_store(url, Surroundings.real())
    if isinstance(store, S3Store):
        with suppress(UnavailableError):  # stops must be honoured while it is down; it is asked before the first write
            store.probe()
    return store


def direct_access(setting: str | None, store: Store) -> str | Presigner | None:
    """Return how jobs in direct mode reach the store's blobs. Raises ``ConfigError`` for what this store cannot do."""
    if setting is None or setting.startswith("/"):
        return setting
    if setting != "presigned":
        raise ConfigError(
            f"store.direct: {setting[:100]!a} is no way to the store", hint='an absolute path, or "presigned"'
        )
    if not isinstance(store, Presigner):
        raise ConfigError(
            "store.direct: this store cannot presign URLs", hint="name the path at which jobs see its directory"
        )
    return store


def lock_rules(config: BrokerConfig) -> Mapping[str, LockRule]:
    """Read what the retention classes mean. ``ConfigError`` for a lock of no days, or on a store that has no locks."""
    rules = {}
    for name, lock in config.store.lock.items():
        if lock.mode == "none":
            rules[name] = LockRule(None, 0)
            continue
        if lock.days == 0:
            raise ConfigError(f"[store.lock.{name}]: days are missing", hint="such as: days = 90")
        if not config.store.url.startswith("s3:"):
            raise ConfigError(f"[store.lock.{name}]: a directory cannot lock what it holds", hint="use S3, or none")
        rules[name] = LockRule(lock.mode, lock.days * _DAY)
    return rules


def database_url(url: str, folder: Path) -> str:
    """Return the ledger's URL; ``sqlite:relative`` is made absolute."""
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and not path.startswith("//"):
        return f"sqlite:///{(folder / path).resolve()}"
    return url


def load_row_key(path: Path) -> SecretBytes:
    """Read the key of the row MACs, 32 bytes, mode 0600; the caller closes it. Raises ``ConfigError``."""
    try:
        with path.open("rb", buffering=0) as file:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read it", hint=f"chmod 600 {path}")
            return SecretBytes.read_from(file.fileno(), _ROW_KEY)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def load_log_signer(path: Path) -> NoteSigner:
    """Read the log's key, mode 0600. Raises ``ConfigError`` without saying what stands in the file."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others may read it", hint=f"chmod 600 {path}")
        return NoteSigner.parse(path.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not a log key'}") from None
    except CustodyError:
        raise ConfigError(f"{path}: not a log key") from None
