"""A tool's home: what it was told out of band (``custody.toml``) and the newest it has seen (``seen.json``).

::

    custody.toml    deployment, genesis (pinned), person, key_file, store, [broker], [tls]
    seen.json       {"epoch", "root", "tree_size"}: canonical JSON, only ever going forward
    roots/<n>.json  trust roots that were verified here, as they were signed

``seen.json`` is what makes a rollback visible: a root or a tree older than one that this home has seen is refused.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from custody.adapters import small_files
from custody.documents.codec import Record, decode, encode
from custody.documents.dsse import MAX_ENVELOPE
from custody.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from custody.rules.trust import Seen
from custody.values import U64, Deployment, Digest, PersonId

__all__ = ["BrokerSettings", "Home", "Profile", "TlsSettings"]

_MAX_PROFILE: Final = 1 << 16
_MAX_SEEN: Final = 4096

_Setting = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of custody.toml: unknown keys are errors, since a typo could switch a protection off."""


class BrokerSettings(_Table, frozen=True, kw_only=True):
    """Where the broker is: ``host:port``, and the name in its certificate where that differs from the host."""

    address: _Setting
    server_name: _Setting | None = None


class TlsSettings(_Table, frozen=True, kw_only=True):
    """Paths of this tool's own certificate and key, and of the CA certificates it accepts (PEM)."""

    certificate: _Setting
    key: _Setting
    ca: _Setting


class Profile(_Table, frozen=True, kw_only=True):
    """custody.toml. Paths may start with ``~`` and are relative to the home."""

    deployment: Deployment
    genesis: Digest | None = None
    person: PersonId | None = None
    key_file: _Setting | None = None
    store: _Setting | None = None
    broker: BrokerSettings | None = None
    tls: TlsSettings | None = None


class _Memory(Record, frozen=True, kw_only=True):
    """seen.json. ``root`` is the digest of the newest root, null before the first."""

    epoch: U64
    root: Digest | None
    tree_size: U64


class Home:
    """A directory of mode 0700, made when something is first written."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.profile_path: Final = self.path / "custody.toml"
        self._memory_path: Final = self.path / "seen.json"
        self._roots: Final = self.path / "roots"

    def resolve(self, setting: str) -> Path:
        """Return the path that a setting of custody.toml means."""
        return self.path / Path(setting).expanduser()

    def profile(self) -> Profile | None:
        """Return custody.toml, or ``None`` where there is none. ``ConfigError`` names the key that is wrong."""
        try:
            data = small_files.read(self.profile_path, _MAX_PROFILE)
        except NotFoundError:
            return None
        try:
            return msgspec.toml.decode(data, type=Profile)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _explain(self.profile_path, data, error) from None

    def require_profile(self) -> Profile:
        """Return custody.toml. ``ConfigError`` where there is none."""
        profile = self.profile()
        if profile is None:
            raise ConfigError(
                f"{self.profile_path} does not exist",
                hint="make it with: custody root verify GENESIS.json --pin    (or choose another --home)",
            )
        return profile

    def require_deployment(self, deployment: str) -> None:
        """Raise ``ConfigError`` where this home belongs to another deployment."""
        profile = self.profile()
        if profile is not None and profile.deployment != deployment:
            raise ConfigError(
                f"{self.path} belongs to deployment {profile.deployment}, not to {deployment}",
                hint="each deployment has a home of its own: choose another with --home",
            )

    def pin(self, deployment: str, genesis: str | None = None) -> None:
        """Write deployment and genesis digest into custody.toml. ``ConfigError`` where it pins others.

        A file that exists keeps what stands in it: a missing ``genesis`` is added as its first line.
        """
        profile = self.profile()
        if profile is None:
            self._make()
            lines = [f"deployment = {json.dumps(deployment)}"] + (
                [f"genesis = {json.dumps(genesis)}"] if genesis else []
            )
            small_files.create(self.profile_path, "".join(f"{line}\n" for line in lines).encode(), 0o600)
            return
        self.require_deployment(deployment)
        if genesis is None or profile.genesis == genesis:
            return
        if profile.genesis is not None:
            raise IntegrityError(
                f"{self.profile_path} pins another genesis trust root: {profile.genesis[:16]}…",
                hint="never accept another genesis: ask who gave you this root",
            )
        text = small_files.read(self.profile_path, _MAX_PROFILE)
        small_files.replace(self.profile_path, f"genesis = {json.dumps(genesis)}\n".encode() + text, 0o600)

    def seen(self) -> Seen:
        """Return the highest epoch and the largest tree seen here; zeros where nothing was."""
        memory = self._memory()
        return Seen(int(memory.epoch), int(memory.tree_size))

    def saw_root(self, epoch: int, root: str) -> None:
        """Remember the newest root of a verified chain, digest ``root``. ``IntegrityError`` where a newer one, or
        another one of its epoch, was seen.
        """
        before = self.seen().epoch
        if epoch < before:
            raise IntegrityError(
                f"rollback: a trust root of epoch {epoch}, but epoch {before} was seen here",
                hint="get the newest trust roots; if they are gone, somebody hides them",
            )
        self.remember(Seen(epoch, 0), root)

    def remember(self, seen: Seen, root: str) -> None:
        """Keep the highest epoch with the digest of its root, and the largest tree; never goes back.

        Two commands at once do not make each other forget. ``IntegrityError`` where another root of the same epoch was
        seen: the history of trust is forked.
        """
        with self._locked():
            memory = self._memory()
            if seen.epoch == memory.epoch and memory.root not in (None, root):
                raise IntegrityError(
                    f"two trust roots of epoch {seen.epoch}: {root[:16]}… and {str(memory.root)[:16]}…, seen earlier",
                    hint="the history of trust is forked: stop, and compare digests with the other custodians",
                )
            newest = (seen.epoch, root) if seen.epoch >= memory.epoch else (int(memory.epoch), memory.root)
            size = max(seen.size, int(memory.tree_size))
            new = _Memory(epoch=U64(newest[0]), root=newest[1], tree_size=U64(size))
            if new != memory:
                small_files.replace(self._memory_path, encode(new) + b"\n", 0o600)

    def _memory(self) -> _Memory:
        try:
            data = small_files.read(self._memory_path, _MAX_SEEN)
        except NotFoundError:
            return _Memory(epoch=U64(0), root=None, tree_size=U64(0))
        try:
            return decode(data.removesuffix(b"\n"), _Memory, str(self._memory_path))
        except FormatError as error:
            raise IntegrityError(
                f"{error.message}; it guards against rollback", hint="restore it, or start again with a new --home"
            ) from None

    def keep_root(self, epoch: int, envelope: bytes) -> None:
        """Keep a verified root, so that commands find it without being told where."""
        path = self._roots / f"{epoch}.json"
        self._make()
        small_files.make_directory(self._roots, 0o700)
        if not path.exists() or small_files.read(path, MAX_ENVELOPE) != envelope:
            small_files.replace(path, envelope)

    def kept_roots(self) -> list[Path]:
        """Return the roots kept here, in the order of epochs."""
        with small_files.explained(self._roots):
            found = [path for path in self._roots.glob("*.json") if path.stem.isdecimal()]
        return sorted(found, key=lambda path: int(path.stem))

    def _make(self) -> None:
        small_files.make_directory(self.path, 0o700)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once must not make each other forget."""
        self._make()
        with small_files.explained(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _explain(path: Path, data: bytes, error: Exception) -> ConfigError:
    """Say which key of a TOML file is wrong, and where."""
    text = " ".join(str(error).split())
    unknown = re.search(r"unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?", text)
    if unknown is None:
        text = re.sub(r"matching regex '.*'", "of the required form", text).replace("`$.", "`").replace(" | null`", "`")
        return ConfigError(f"{path}: {text[:300]}", hint="see: custody init --help")
    key, table = unknown[1], unknown[2] or ""
    tables: dict[str, Any] = {"": Profile, "broker": BrokerSettings, "tls": TlsSettings}
    known = [field.encode_name for field in msgspec.structs.fields(tables.get(table, Profile))]
    lines = [number for number, line in enumerate(data.decode().splitlines(), 1) if line.lstrip().startswith(key)]
    where = f"{path}:{lines[0]}" if len(lines) == 1 else str(path)
    import difflib  # where a file is wrong, and there only

    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
    return ConfigError(f"{where}: unknown key {key[:60]!a}" + (f" in [{table}]" if table else ""), hint=hint)
