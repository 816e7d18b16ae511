"""Puts an audit together: where the log lies, what is pinned, what an earlier run saw."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from custody.adapters import small_files
from custody.adapters.home import Home
from custody.adapters.local_reader import LocalReader
from custody.app.audit_pool import directory_source, pooled
from custody.app.roots import load_roots, read_envelope
from custody.audit.report import Report
from custody.audit.saved import MAX_SAVED, Saved
from custody.audit.source import Source
from custody.audit.verify import Pins, Way, verify_log
from custody.audit.view import Judged, LogView, check_receipt
from custody.entries.entry import Entry
from custody.entries.receipt_file import MAX_RECEIPT_FILE, encode_receipt, parse_receipt
from custody.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from custody.ports import Policy

__all__ = [
    "Audit",
    "audit",
    "check_receipt_file",
    "open_log",
    "pinned_genesis",
    "require_document",
    "view_log",
    "write_documents",
    "write_receipt",
]


@dataclass(frozen=True, slots=True)
class Audit:
    """What to verify a log with. ``genesis`` and ``deployment`` are as given, ``state`` the file of earlier runs.

    ``directory`` is where the log lies, unless a broker serves it. With ``anew`` nothing is skipped that an earlier run
    judged; with ``structure`` only hashes, checkpoints and trust roots are verified. ``processes`` examine the log, by
    default one for each core. ``policies`` are the folders of policies, with which answers are derived again.
    """

    home: Home
    genesis: str | None = None
    deployment: str | None = None
    state: Path | None = None
    directory: Path | None = None
    anew: bool = False
    structure: bool = False
    processes: int | None = None
    policies: Sequence[Path] = ()


@contextmanager
def open_log(directory: Path | None, home: Home) -> Iterator[Source]:
    """Open a published log: a directory, or without one the broker that the home names.

    Raises ``NotFoundError`` where there is no such directory, ``ConfigError`` where the home names no broker.
    """
    if directory is None:
        with _broker(home) as source:
            yield source
        return
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: no such directory", hint="name the directory that holds the file checkpoint")
    with LocalReader(directory) as reader:
        yield directory_source(reader)


def audit(source: Source, how: Audit, *, progress: Callable[[int, int], None] | None = None) -> Report:
    """Verify a log from the pinned genesis on. Where its tree is sound, that is remembered in the state file.

    Raises ``ConfigError`` where nothing is pinned, ``IntegrityError`` for two different pins and for the state file
    of another deployment, and what ``verify_log`` raises.
    """
    pins = _pins(how)
    saved = _saved(how.state)
    if saved is not None and how.anew:
        saved = replace(saved, memory=b"")
    examine = pooled(how.directory, source, how.processes) if how.directory else None
    policies = _policies(how.policies)
    report, memory = verify_log(source, pins, saved, Way(examine, how.structure, progress, policies))
    for digest in policies:
        if not how.structure and not report.asked[digest]:
            report.remark("policy-unused", f"no request, grant or session was under the policy {digest} that was given")
    where = "a directory" if how.directory else "the broker"
    report.remark("freshness", f"freshness unverified: {where} cannot show that there is no newer entry")
    if not how.directory:
        report.remark(
            "listed",
            f"{report.checkpoints} kept checkpoints were compared, those that the broker lists: whether there are more "
            "is only seen in the log's directory, or in a copy of it",
        )
    seen = how.home.seen().size
    if seen > report.size:
        report.remark("seen", f"this home has seen a log of {seen} entries; those after {report.size} were not audited")
    if how.state is not None and memory is not None:
        small_files.replace(how.state, memory.encode(), 0o600)
    return report


def pinned_genesis(how: Audit) -> str:
    """Return the digest of the genesis trust root that an audit goes by; raises as ``audit`` does."""
    return _pins(how).genesis


def view_log(source: Source, home: Home, roots: Sequence[Path], genesis: str | None) -> LogView:
    """Open a log to look at, its checkpoint judged by the trust roots given or kept in the home."""
    return LogView(source, load_roots(home, roots, genesis).roots)


def write_receipt(view: LogView, index: int, path: Path) -> None:
    """Write the receipt of an entry into a new file."""
    small_files.create(path, encode_receipt(view.receipt(index)))


def write_documents(view: LogView, index: int, folder: Path) -> Sequence[Path]:
    """Write the signed documents of an entry into new files of a directory, one for each kind; return their paths.

    Raises ``ConflictError`` where there is one already.
    """
    entry = Entry.parse(view.entry(index))
    written = []
    small_files.make_directory(folder)
    for reference, envelope in zip(entry.documents, view.documents(index, entry), strict=True):
        path = folder / f"{index}-{reference.kind}.json"
        small_files.create(path, envelope.encode())
        written.append(path)
    return written


def check_receipt_file(path: Path, home: Home, roots: Sequence[Path], genesis: str | None) -> Judged:
    """Verify a receipt file offline. Raises ``FormatError`` naming the file, ``IntegrityError``."""
    trusted = load_roots(home, roots, genesis)
    try:
        return check_receipt(parse_receipt(small_files.read(path, MAX_RECEIPT_FILE)), trusted.roots)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint) from None
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error.message}", hint=error.hint) from None


def require_document(entry: Entry, path: Path) -> None:
    """Raise ``IntegrityError`` unless an entry names the signed document in a file, with exactly these signatures.

    A session's outcome names no document, but the session: the digest of its open document, whoever signed it.
    """
    envelope = read_envelope(path)
    named = {reference.envelope for reference in entry.documents}
    if envelope.envelope_digest not in named and (named or entry.session != envelope.digest):
        raise IntegrityError(
            f"{path}: the receipt is of another entry, which does not name this document",
            hint="a valid receipt of something else proves nothing here: keep both, and ask whoever gave them to you",
        )


def _pins(how: Audit) -> Pins:
    profile = how.home.profile()
    pinned = profile.genesis if profile else None
    if how.genesis is not None and pinned is not None and how.genesis != pinned:
        raise IntegrityError(
            f"--genesis {how.genesis[:16]}… is not the genesis pinned in {how.home.profile_path}",
            hint="each deployment has a home of its own: choose another with --home",
        )
    genesis = how.genesis or pinned
    if genesis is None:
        raise ConfigError(
            "no genesis trust root is pinned, so no log can be believed",
            hint="pin it: custody root verify keys/root.json --pin    (or give --genesis DIGEST)",
        )
    if how.deployment is not None:
        how.home.require_deployment(how.deployment)
    return Pins(genesis, how.deployment or (profile.deployment if profile else None))


def _policies(folders: Sequence[Path]) -> Mapping[str, Policy]:
    """Load policies, by digest. Raises ``ConfigError`` for one that is none; needs cedarpy if there is one."""
    if not folders:
        return {}
    from custody.adapters.policy_cedar import CedarPolicy
    from custody.app.deployment import read_bundle

    policies = [CedarPolicy(read_bundle(folder)) for folder in folders]
    return {policy.digest: policy for policy in policies}


def _saved(path: Path | None) -> Saved | None:
    if path is None:
        return None
    try:
        return Saved.parse(small_files.read(path, MAX_SAVED), str(path))
    except NotFoundError:
        return None
    except FormatError as error:
        raise IntegrityError(
            f"{error.message}; it guards against rollback", hint="restore it, or start again with a new state file"
        ) from None


@contextmanager
def _broker(home: Home) -> Iterator[Source]:
    from custody.adapters.surroundings import Surroundings
    from custody.app.broker_log import BrokerLog
    from custody.client.link import Link
    from custody.client.settings import Settings

    around = Surroundings(lambda: int(time.time()), os.urandom)  # for the pauses between attempts
    with Link(Settings.of_home(home), around) as link, BrokerLog(link) as served:
        yield served.source()
