"""The broker's one configuration file, TOML. Every key is known; a typo is an error that names it.

Relative paths are relative to the file. Secrets are named by URI (``file:``), never written here.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from custody.errors import ConfigError
from custody.values import Deployment, Digest, Name, PersonId

__all__ = ["BrokerConfig", "load", "template"]

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """A table of the file."""


class _Broker(_Table, frozen=True, kw_only=True):
    """Who this broker is."""

    id: PersonId
    key: _Text


class _Log(_Table, frozen=True, kw_only=True):
    """The log: its key, and where tiles and checkpoints are published."""

    key: _Text
    store: _Text


class _Ledger(_Table, frozen=True, kw_only=True):
    """The database, the key of its row MACs, and when published entries leave it (never, unless it is said)."""

    url: _Text
    row_key: _Text
    prune_after_days: _Positive | None = None


class _Lock(_Table, frozen=True, kw_only=True):
    """Object lock of a retention class."""

    mode: Literal["none", "governance", "compliance"]
    days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0


class _Store(_Table, frozen=True, kw_only=True):
    """Where ciphertext lies, and by retention class for how long the store must refuse to delete it.

    ``direct`` lets jobs in direct mode read it: the absolute path at which they see the same directory, or
    ``presigned`` for URLs of the store.
    """

    url: _Text
    direct: _Text | None = None
    lock: dict[Name, _Lock] = msgspec.field(default_factory=dict)
    upload_gib: _Positive = 16 << 10
    upload_hours: Annotated[int, msgspec.Meta(ge=1, le=24)] = 24


class _Policy(_Table, frozen=True, kw_only=True):
    """The folder of the policy bundle."""

    directory: _Text


class _Tls(_Table, frozen=True, kw_only=True):
    """The broker's SVID and the SPIFFE roots; files are read again when they change."""

    certificate: _Text
    key: _Text
    ca: _Text


class _Listen(_Table, frozen=True, kw_only=True):
    """Where to listen; connection ages in seconds. What an identity may do a minute: hellos; requests, releases
    and versions.
    """

    address: _Text
    max_connection_age: _Positive = 3600
    max_connection_grace: _Positive = 600
    call_threads: _Positive = 32
    read_threads: _Positive = 2
    hellos_per_minute: _Positive = 60
    requests_per_minute: _Positive = 120


class BrokerConfig(_Table, frozen=True, kw_only=True):
    """The whole file. ``witnesses`` are URLs by the names in the trust root's policy; times are seconds."""

    deployment: Deployment
    genesis: Digest
    roots: tuple[_Text, ...]
    state: _Text
    broker: _Broker
    listen: _Listen
    tls: _Tls
    log: _Log
    ledger: _Ledger
    store: _Store
    policy: _Policy
    witnesses: dict[str, str] = msgspec.field(default_factory=dict)
    witness_timeout: _Positive = 5
    receipt_timeout: _Positive = 10


def load(path: Path) -> BrokerConfig:
    """Read and check the file. Raises ``ConfigError`` saying what is wrong and where."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="custody init writes one") from None
    try:
        table = tomllib.loads(data.decode())
        return msgspec.convert(table, BrokerConfig)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        text = str(error).replace("`$.", "`").replace(" - at `$`", "").replace("Object contains", "it contains")
        raise ConfigError(f"{path}: {text}", hint="custody broker serve --help lists the settings") from None


_TEMPLATE: Final = """\
# The broker's configuration. Relative paths are relative to this file.

deployment = "{deployment}"
genesis = "{genesis}"                    # digest of the genesis trust root, pinned
roots = ["../keys/root.json"]            # from genesis on: a new root is added at the end
state = "state"                          # local folder for stop tombstones
witness-timeout = 5                      # seconds
receipt-timeout = 10                     # seconds until a caller is told that the log is blocked

[broker]
id = "{broker}"
key = "file:broker.key"

[listen]
address = "{address}"
max-connection-age = 3600                # seconds; a revoked certificate is not used for longer
max-connection-grace = 600

[tls]
certificate = "tls/tls.crt"
key = "tls/tls.key"
ca = "../keys/ca.pem"

[log]
key = "file:log.key"
store = "file:../log"

[ledger]
url = "sqlite:ledger.sqlite"             # or postgresql+psycopg://…
row-key = "file:row.key"
# prune-after-days = 400                 # older entries leave the database: first have a second copy of the log

[store]
url = "file:../store"                    # or s3://bucket/prefix?region=…
# direct = "/mnt/weights"                # the store as jobs in direct mode see it, if they may; or "presigned"
upload-gib = 16384                       # the most that a sealer may upload at once
upload-hours = 24                        # and how long that may take

# [store.lock.standard]                  # S3 with object lock: nobody deletes a version of this retention class
# mode = "governance"                    # or "compliance", which not even the account's owner can lift; or "none"
# days = 90

[policy]
directory = "policy"

[witnesses]                              # URLs, by the names in the trust root's witness policy
{witnesses}
"""


def template(*, deployment: str, genesis: str, broker: str, address: str, witnesses: dict[str, str]) -> str:
    """Return a configuration for the layout that ``custody init`` makes."""
    lines = "\n".join(f'{name} = "{url}"' for name, url in witnesses.items())
    return _TEMPLATE.format(deployment=deployment, genesis=genesis, broker=broker, address=address, witnesses=lines)
