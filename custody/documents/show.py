"""How a document is shown to the one who is asked to sign it: rows of (label, value), nothing left out.

Each row is one line of plain text. Labels repeat where a thing occurs several times; the order is that of meaning, not
of the JSON. Digests are shown whole, since whoever signs may compare them. Who prints the rows escapes them; nothing
here knows a terminal.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from custody.documents.actor import actor_name
from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.dsse import Document
from custody.documents.hello import Hello
from custody.documents.release import Release, ReleaseKey
from custody.documents.request import Range, Request
from custody.documents.root import Root, Roster
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.values import Time

__all__ = ["Rows", "changes", "duration_text", "fingerprint", "rows", "size_text"]

Rows = list[tuple[str, str]]

_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES: Final = ((1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def rows(document: Document) -> Rows:
    """Return what a document says. ``TypeError`` for a kind that nobody has taught this to show."""
    match document:
        case Root():
            return _root(document)
        case Content():
            return _content(document)
        case Sharing():
            return _sharing(document)
        case Request():
            return _request(document)
        case Terms():
            return _terms(document)
        case Decision():
            return _decision(document)
        case Release() | ReleaseKey():
            return _release(document)
        case OpenSession():
            return _session(document)
        case Stop():
            return _stop(document)
        case Hello():
            return [
                ("deployment", document.deployment),
                ("from", actor_name(document.actor)),
                ("issued", str(document.issued)),
                ("nonce", document.nonce),
            ]
    message = f"a {document.document_kind()} document has no way to be shown"
    raise TypeError(message)


def changes(old: Rows, new: Rows) -> list[tuple[str, str, str]]:
    """Compare two lists of rows: (``+`` or ``-``, label, value) for each row that only one of them has."""
    before, after = set(old), set(new)
    gone = [("-", *row) for row in old if row not in after]
    come = [("+", *row) for row in new if row not in before]
    order = {label: place for place, (label, _) in reversed(list(enumerate([*new, *old])))}
    return sorted(gone + come, key=lambda row: order[row[1]])


def fingerprint(digest: str) -> str:
    """Write a hex digest in groups of four, for reading aloud."""
    return " ".join(digest[place : place + 4] for place in range(0, len(digest), 4))


def size_text(size: int) -> str:
    """Write a number of bytes for people: ``1.2 GiB (1288490189 bytes)``."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name} ({size} bytes)"
    return f"{size} bytes"


def duration_text(seconds: int) -> str:
    """Write a number of seconds for people: ``1 day 2 hours``."""
    parts = []
    for unit, name in _UNITS:
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return " ".join(parts) or "0 seconds"


def _root(root: Root) -> Rows:
    result = [
        ("deployment", root.deployment),
        ("epoch", f"{root.epoch}" + (" (genesis)" if root.epoch == 0 else "")),
        ("previous root", root.previous or "none"),
        ("created", str(root.created)),
    ]
    for person in root.persons:
        result += [(f"person {person.id}", person.name), (f"person {person.id}, identity", person.identity)]
        result += [(f"person {person.id}, key of {device.name}", device.key_id) for device in person.devices]
    for roster in root.rosters:
        result += _roster(roster)
    result += [(f"sealer {item.sealer}", f"may seal {', '.join(item.names)}") for item in root.sealers]
    result += [(f"owner of {item.workload}", ", ".join(item.persons)) for item in root.owners]
    for broker in root.brokers:
        result += [(f"broker {broker.id}", broker.identity), (f"broker {broker.id}, key", broker.key_id)]
    result.append(("log", root.log.vkey))
    if root.log.predecessor is not None:
        result.append(("log before it ends with", f"checkpoint {_sha256(root.log.predecessor)}"))
    result += [("witness policy", line) for line in root.witness_policy]
    result.append(("trust domain", root.trust_domain))
    result += [("SPIFFE root", f"certificate {_sha256(item)}") for item in root.spiffe_roots]
    result.append(("policy", root.policy))
    return result


def _roster(roster: Roster) -> Rows:
    quorum = "; and ".join(f"{group.threshold} of {', '.join(group.members)} ({group.name})" for group in roster.groups)
    label = f"roster {roster.name}"
    result = [(label, quorum), (f"{label} guards", ", ".join(roster.guards) or "no versions")]
    when = "with the decision" if roster.release == "with-decision" else "after the quorum"
    result.append(
        (f"{label} releases", when + (f", {duration_text(roster.cool_off)} later" if roster.cool_off else ""))
    )
    return result


def _content(content: Content) -> Rows:
    result = [
        ("deployment", content.deployment),
        ("version", content.version),
        ("vid", content.vid),
        ("sealer", actor_name(content.sealer)),
        ("created", str(content.created)),
        ("size", f"{size_text(content.size)} in {_count(len(content.files), 'file')}"),
        ("segment", size_text(content.segment)),
        ("retention", content.retention),
        ("key", f"{content.key_kind}, commitment {content.key_commit}"),
    ]
    result += [(f"label {label.name}", label.value) for label in content.labels]
    result += [("made from", digest) for digest in content.lineage]
    result += [
        (f"file {index}", f"{file.path}, {file.size} bytes, ciphertext {file.ciphertext}, digests {file.digests}")
        for index, file in enumerate(content.files)
    ]
    return result


def _sharing(sharing: Sharing) -> Rows:
    result = [
        ("deployment", sharing.deployment),
        ("version", sharing.version),
        ("content", sharing.content),
        ("generation", str(sharing.generation)),
        ("roster", sharing.roster),
        ("quorum", sharing.quorum_text()),
        ("signer", actor_name(sharing.signer)),
        ("created", str(sharing.created)),
    ]
    if sharing.reshare is not None:
        result.append(("approved terms", sharing.reshare))
    result += [
        (f"slot {slot}", f"{holder.person}, commitment {holder.commitment}") for slot, holder in sharing.slots().items()
    ]
    return result


def _request(request: Request) -> Rows:
    result = [
        ("deployment", request.deployment),
        ("kind", request.kind),
        ("requester", actor_name(request.requester)),
        ("beneficiary", request.beneficiary),
        ("version", request.version),
        ("content", request.content),
        ("files", _files(request.files)),
        ("purpose", request.purpose),
        ("mode", _mode(request.mode)),
        ("may start", f"{request.not_before} to {request.open_before}"),
        ("duration", f"{duration_text(request.duration)}, so until {Time(request.not_after)} at the latest"),
        ("sessions", f"at most {request.sessions}"),
        ("bytes", f"at most {size_text(request.bytes)}"),
        ("reason", request.reason),
        ("ticket", request.ticket or "none"),
        ("created", str(request.created)),
        ("nonce", request.nonce),
    ]
    result += [("lifts lockdown", digest) for digest in request.lifts]
    if request.roster is not None:
        result.append(("reshare to roster", request.roster))
    return result


def _terms(terms: Terms) -> Rows:
    return [
        ("deployment", terms.deployment),
        ("request", terms.request),
        ("beneficiary", terms.beneficiary),
        ("version", terms.version),
        ("content", terms.content),
        ("files", _files(terms.files)),
        ("purpose", terms.purpose),
        ("mode", _mode(terms.mode)),
        ("may start", f"{terms.not_before} to {terms.open_before}"),
        ("ends", str(terms.not_after)),
        ("sessions", f"at most {terms.sessions}"),
        ("bytes", f"at most {size_text(terms.bytes)}"),
        ("issuer", actor_name(terms.issuer)),
        ("created", str(terms.created)),
    ]


def _decision(decision: Decision) -> Rows:
    return [
        ("deployment", decision.deployment),
        ("verdict", decision.verdict),
        ("person", f"{decision.person}, slot {decision.slot}"),
        ("terms", decision.terms),
        ("request", decision.request),
        ("sharing", decision.sharing),
        ("trust root", decision.root),
        ("note", decision.note or "none"),
        ("issued", str(decision.issued)),
        ("counts until", str(decision.expires)),
    ]


def _release(document: Release | ReleaseKey) -> Rows:
    if isinstance(document, ReleaseKey):
        return [
            ("deployment", document.deployment),
            ("request", document.request),
            ("broker", document.broker),
            ("X-Wing key", f"SHA-256 {_sha256(document.xwing)}"),
            ("created", str(document.created)),
        ]
    result = [
        ("deployment", document.deployment),
        ("person", f"{document.person}, slot {document.slot}"),
        ("request", document.request),
        ("terms", document.terms),
        ("sharing", document.sharing),
        ("issued", str(document.issued)),
    ]
    result += [
        (f"for broker {item.broker}", f"release key {item.release_key}, wrapped share {item.wrapped}")
        for item in document.recipients
    ]
    return result


def _session(opened: OpenSession) -> Rows:
    return [
        ("deployment", opened.deployment),
        ("lease", opened.lease),
        ("workload", actor_name(opened.workload)),
        ("files", _files(opened.files)),
        ("bytes", f"at most {size_text(opened.bytes)}"),
        ("mode", "stream" if opened.xwing is None else f"direct, X-Wing key SHA-256 {_sha256(opened.xwing)}"),
        ("issued", str(opened.issued)),
        ("nonce", opened.nonce),
    ]


def _stop(stop: Stop) -> Rows:
    return [
        ("deployment", stop.deployment),
        ("action", stop.action),
        ("target", stop.target),
        ("by", actor_name(stop.actor)),
        ("reason", stop.reason),
        ("issued", str(stop.issued)),
        ("nonce", stop.nonce),
    ]


def _files(ranges: Iterable[Range]) -> str:
    return ", ".join(_ranges(ranges))


def _ranges(ranges: Iterable[Range]) -> Iterator[str]:
    for item in ranges:
        yield f"{item.first}" if item.first == item.last else f"{item.first} to {item.last}"


def _mode(mode: str) -> str:
    return "direct: PERMANENT, NOT REVOCABLE" if mode == "direct" else mode


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
