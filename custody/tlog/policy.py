"""Which signatures make a checkpoint acceptable (tlog-policy).

::

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member>...
    quorum <name>
    # comment; fields are separated by spaces and tabs; names are defined before they are used

A checkpoint is acceptable when the key of its own log signed it *and* the witnesses of the quorum cosigned it. Narrower
than the specification: UTF-8 only, logs sign with type 0x01 and witnesses with 0x04, no key and no key name serves two
parties, ``quorum none`` is refused, and so is every policy under which two disjoint sets of witnesses each make a
quorum, since they could then cosign the two sides of a fork without any witness lying.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from custody.errors import ConfigError, FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.lines import utf8_text
from custody.tlog.note import COSIGNATURE, ED25519, VKey, open_note

__all__ = ["CheckedCheckpoint", "Group", "LogKey", "Policy", "Witness", "quorum_time"]

_MAX_SIZE = 1 << 18  # bytes
_MAX_LINES_OF_A_KIND = 64  # logs, witnesses, groups; the spec asks for at least 32
_FIELD = re.compile(r"[^\x00-\x20\x7f]+")
_DECIMAL = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log line: the key, whose name is the origin of the log, and its URL or ``""``."""

    vkey: VKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness line: its ``name`` within the policy, its key, and its URL or ``""``."""

    name: str
    vkey: VKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group line: met when at least ``threshold`` of ``members`` (names of witnesses or earlier groups) are."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckedCheckpoint:
    """A checkpoint that met a policy: the log key that signed it, and the time stated by each counted witness.

    ``cosigned`` maps the policy's witness names to POSIX seconds and holds at least a quorum. Witnesses that the
    quorum does not mention are left out.
    """

    checkpoint: Checkpoint
    log: VKey
    cosigned: Mapping[str, int]


def quorum_time(cosigned: Mapping[str, int]) -> tuple[int, int]:
    """Return the earliest and the latest counted cosignature time (POSIX seconds).

    A single witness can state any time. Who judges validity by them requires it at *all* counted times; who publishes
    may leave a cosignature out as long as the rest is a quorum.
    """
    return min(cosigned.values()), max(cosigned.values())


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was found sound: no other can be made. Groups are in order, members before the group."""

    logs: tuple[LogKey, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def __post_init__(self) -> None:
        """Check everything but the syntax: ``FormatError`` for a policy that is none, ``ConfigError`` for a bad one."""
        _require_keys(self.logs, self.witnesses)
        _require_names(self.witnesses, self.groups, self.quorum)
        if self.quorum in _forkable(self.groups):
            raise ConfigError(
                f"policy: two disjoint sets of witnesses both satisfy quorum {self.quorum}, which permits a fork",
                hint="require more than half of the witnesses",
            )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a policy file. ``FormatError`` names the line; ``ConfigError`` for one that protects nobody."""
        if len(data) > _MAX_SIZE:
            raise FormatError(f"policy: longer than {_MAX_SIZE} bytes")
        text = utf8_text(data.replace(b"\t", b" "), "policy")
        if "\x7f" in text:
            raise FormatError("policy: holds a control character")
        if text and not text.endswith("\n"):
            raise FormatError("policy: the last line does not end in a newline")
        reader = _Reader()
        for number, line in enumerate(text.split("\n"), start=1):
            fields = [field for field in line.split(" ") if field]
            if not fields or fields[0].startswith("#"):
                continue
            try:
                reader.line(fields)
            except FormatError as error:
                raise FormatError(f"policy, line {number}: {error.message}") from error
        if reader.quorum is None:
            raise FormatError("policy: no quorum line")
        return cls(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)

    def encode(self) -> bytes:
        """Return a policy file that parses to an equal policy."""
        lines = [f"log {log.vkey.encode()} {log.url}" for log in self.logs]
        lines += [f"witness {witness.name} {witness.vkey.encode()} {witness.url}" for witness in self.witnesses]
        lines += [f"group {group.name} {group.threshold} {' '.join(group.members)}" for group in self.groups]
        lines.append(f"quorum {self.quorum}")
        return "".join(f"{line.rstrip()}\n" for line in lines).encode()

    def counted(self) -> tuple[Witness, ...]:
        """Return the witnesses that the quorum mentions, in the order of the file."""
        groups = {group.name: group.members for group in self.groups}
        pending, names = [self.quorum], set()
        while pending:
            name = pending.pop()
            names.add(name)
            pending += groups.get(name, ())
        return tuple(witness for witness in self.witnesses if witness.name in names)

    def satisfied_by(self, names: Collection[str]) -> bool:
        """Decide whether these witnesses make a quorum."""
        met = set(names) & {witness.name for witness in self.witnesses}
        for group in self.groups:  # members are defined before their group
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return self.quorum in met

    def check(self, note: bytes) -> CheckedCheckpoint:
        """Open a checkpoint and require its own log's key and the quorum of witnesses.

        Raises ``FormatError`` for bytes that are no checkpoint, ``IntegrityError`` where a signature of a key of
        this policy does not verify, the log is not one of the policy, or the quorum is not met.
        """
        if not self.logs:
            raise ConfigError("policy: names no log")
        counted = {witness.vkey: witness.name for witness in self.counted()}
        keys = [log.vkey for log in self.logs] + [witness.vkey for witness in self.witnesses]
        opened = open_note(note, keys)
        checkpoint = Checkpoint.parse(opened.text)
        checkpoint.require_sound_root()
        signers = [vkey for vkey, time in opened.verified if time is None and vkey.name == checkpoint.origin]
        if not signers:
            raise IntegrityError(f"checkpoint of size {checkpoint.size}: not signed by the key of a log of this policy")
        cosigned = {counted[vkey]: time for vkey, time in opened.verified if time is not None and vkey in counted}
        if not self.satisfied_by(cosigned):
            names = ", ".join(sorted(cosigned)) or "no witness"
            raise IntegrityError(
                f"checkpoint of {checkpoint.origin}, size {checkpoint.size}: no witness quorum, only {names}"
            )
        return CheckedCheckpoint(checkpoint, signers[0], cosigned)


class _Reader:
    """The lines of a policy as they are read."""

    def __init__(self) -> None:
        self.logs: list[LogKey] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None

    def line(self, fields: list[str]) -> None:
        """Take one line that is neither empty nor a comment."""
        keyword, *rest = fields
        readers: dict[str, tuple[Callable[[list[str]], None], int, int]] = {
            "log": (self._log, 1, 2),
            "witness": (self._witness, 2, 3),
            "group": (self._group, 3, _MAX_LINES_OF_A_KIND * 2 + 2),
            "quorum": (self._quorum, 1, 1),
        }
        if keyword not in readers:
            raise FormatError("neither log, witness, group nor quorum")
        read, least, most = readers[keyword]
        if not least <= len(rest) <= most:
            raise FormatError(f"{keyword}: wrong number of fields")
        read(rest)

    def _names(self) -> set[str]:
        return {witness.name for witness in self.witnesses} | {group.name for group in self.groups}

    def _log(self, fields: list[str]) -> None:
        self.logs.append(LogKey(VKey.parse(fields[0]), *fields[1:]))

    def _witness(self, fields: list[str]) -> None:
        self.witnesses.append(Witness(fields[0], VKey.parse(fields[1]), *fields[2:]))

    def _group(self, fields: list[str]) -> None:
        name, how, *members = fields
        known = self._names()
        for member in members:
            if member not in known:
                raise FormatError(f"group {name}: {member} is not defined before it")
        if how in ("all", "any"):
            threshold = len(members) if how == "all" else 1
        elif _DECIMAL.fullmatch(how):
            threshold = int(how)
        else:
            raise FormatError(f"group {name}: neither all, any nor a number")
        self.groups.append(Group(name, threshold, tuple(members)))

    def _quorum(self, fields: list[str]) -> None:
        if self.quorum is not None:
            raise FormatError("a second quorum line")
        (self.quorum,) = fields
        if self.quorum != "none" and self.quorum not in self._names():
            raise FormatError(f"quorum: {self.quorum} is not defined before it")


def _require_keys(logs: tuple[LogKey, ...], witnesses: tuple[Witness, ...]) -> None:
    """Refuse keys of the wrong type, a public key that occurs twice, and two witnesses of one key name."""
    for url in [log.url for log in logs] + [witness.url for witness in witnesses]:
        if url and not _FIELD.fullmatch(url):
            raise FormatError("policy: a URL holds a space")
    parties = [(log.vkey, ED25519) for log in logs] + [(witness.vkey, COSIGNATURE) for witness in witnesses]
    keys: set[bytes] = set()
    cosigners: set[str] = set()
    for vkey, needed in parties:
        if vkey.type != needed:
            raise FormatError(f"policy: the key of {vkey.name} has type 0x{vkey.type:02x} instead of 0x{needed:02x}")
        if vkey.key in keys:
            raise FormatError(f"policy: the public key of {vkey.name} occurs twice")
        if needed == COSIGNATURE and vkey.name in cosigners:
            raise FormatError(f"policy: two witnesses are called {vkey.name}")
        keys.add(vkey.key)
        if needed == COSIGNATURE:
            cosigners.add(vkey.name)


def _require_names(witnesses: tuple[Witness, ...], groups: tuple[Group, ...], quorum: str) -> None:
    """Refuse names defined twice or used twice, thresholds out of range, and a quorum that is none."""
    if max(len(witnesses), len(groups)) > _MAX_LINES_OF_A_KIND:
        raise FormatError(f"policy: more than {_MAX_LINES_OF_A_KIND} witnesses or groups")
    if quorum == "none":
        raise ConfigError(
            "policy: quorum none accepts checkpoints that no witness has seen",
            hint="name at least one witness in the quorum line",
        )
    defined: set[str] = set()
    used: set[str] = set()
    for name, members in [(witness.name, ()) for witness in witnesses] + [(g.name, g.members) for g in groups]:
        if not _FIELD.fullmatch(name) or name in defined or name == "none":
            raise FormatError(f"policy: the name {name} is defined twice, reserved or no name")
        for member in members:
            if member not in defined or member in used:
                raise FormatError(f"policy: {member} is not defined before group {name}, or is in two groups")
            used.add(member)
        defined.add(name)
    for group in groups:
        if not 1 <= group.threshold <= len(group.members):
            raise FormatError(f"policy: group {group.name} wants {group.threshold} of {len(group.members)} members")
    if quorum not in defined:
        raise FormatError(f"policy: quorum {quorum} is not defined")


def _forkable(groups: Iterable[Group]) -> set[str]:
    """Find the groups that two disjoint sets of witnesses can both satisfy.

    Exact, without a search: each name is a member of at most one group, so the members of a group are independent of
    each other. Two disjoint sets can always satisfy any two *different* members. Both can satisfy the *same* member
    only if that is itself such a group; a single witness never. With n members, f of them such groups, the two sets
    have n + f places to share out, and each needs ``threshold`` of at most n: possible exactly if 2k <= n + f.
    """
    found: set[str] = set()
    for group in groups:
        places = len(group.members) + sum(member in found for member in group.members)
        if 2 * group.threshold <= places:
            found.add(group.name)
    return found
