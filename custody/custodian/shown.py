"""A review in words: rows of (label, value), for whoever is asked at three in the morning. Pure.

Times stand in local time, in UTC, and as how long it is until then. Digests stand whole where they are what is signed.
Every value is one line of plain text; who prints it escapes it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Final

from custody.custodian.fold import RequestView, VersionView
from custody.custodian.review import Review
from custody.documents.actor import Person, actor_name
from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.request import Range, Request, indexes
from custody.documents.sharing import Sharing
from custody.documents.show import Rows, size_text
from custody.documents.terms import Terms
from custody.rules.quorum import met

__all__ = [
    "ahead",
    "decided_rows",
    "differences",
    "files_text",
    "freshness_text",
    "missing_text",
    "moment",
    "request_rows",
    "signed_rows",
    "span",
    "version_rows",
]

_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SHOWN: Final = 20
"""Files named one by one; beyond that they are counted."""


def span(seconds: int) -> str:
    """Write a span of time in its two largest units: ``2 hours 5 minutes``."""
    left = abs(seconds)
    parts: list[str] = []
    for unit, name in _UNITS:
        count, left = divmod(left, unit)
        if count or (unit == 1 and not parts):
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
        if parts and (len(parts) == 2 or not count):  # noqa: PLR2004 - the two largest
            break
    return " ".join(parts)


def moment(at: int, now: int, zone: tzinfo | None = None) -> str:
    """Write a time: local (or in ``zone``), UTC, and how far away it is."""
    local = datetime.fromtimestamp(at, UTC).astimezone(zone)
    utc = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    shown = f"{local:%a %Y-%m-%d %H:%M:%S %Z} ({utc})" if local.utcoffset() else f"{local:%a %Y-%m-%d %H:%M:%S} UTC"
    return f"{shown}, {ahead(at, now)}"


def ahead(at: int, now: int) -> str:
    """Say how far away a time is: ``in 2 hours``, ``5 minutes ago``."""
    if at == now:
        return "now"
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def files_text(content: Content, ranges: tuple[Range, ...]) -> list[str]:
    """Name the files: one by one where they are few, counted where they are many."""
    chosen = list(indexes(ranges))
    size = sum(content.files[index].size for index in chosen)
    total = len(content.files)
    many = "file" if total == 1 else "files"
    count = f"all {total} {many}" if len(chosen) == total else f"{len(chosen)} of {total} {many}"
    lines = [f"{count}, {size_text(size)}"]
    lines += [f"{content.files[index].path}, {size_text(content.files[index].size)}" for index in chosen[:_SHOWN]]
    if len(chosen) > _SHOWN:
        lines.append(f"and {len(chosen) - _SHOWN} more")
    return lines


def freshness_text(seen: Review) -> str:
    """Say how new what was verified is, and how that is known."""
    fresh = seen.freshness
    when = ahead(fresh.witnessed, seen.now)
    if fresh.proven:
        return f"verified: the log answered this tool's own nonce, witnessed {when}"
    if fresh.why:
        return f"UNVERIFIED: {fresh.why}"
    return f"as of {when}: the last of {fresh.size} log entries, witnessed then, names trust root {seen.root.epoch}"


def request_rows(seen: Review, zone: tzinfo | None = None) -> Rows:
    """Say what is asked: who, for whom, what, why, when, how much."""
    found, terms, now = seen.view.found, seen.terms, seen.now
    request, content = found.request, seen.view.version.version.content
    owners = ", ".join(sorted(seen.root.owners_of(terms.beneficiary))) or "nobody"
    rows: Rows = [
        ("asked by", _asker(request)),
        ("for", terms.beneficiary),
        ("owned by", owners),
        ("asked", moment(found.time, now, zone)),
        ("version", terms.version),
    ]
    rows += _content_rows(seen.view.version, now, zone)
    rows += [("files" if place == 0 else "", line) for place, line in enumerate(files_text(content, terms.files))]
    size = sum(content.files[index].size for index in indexes(terms.files))
    rows += [
        ("purpose", terms.purpose),
        ("reason", request.reason),
        ("ticket", request.ticket or "none"),
        ("may start", moment(terms.not_before, now, zone)),
        ("until", moment(terms.open_before, now, zone)),
        ("ends", moment(terms.not_after, now, zone)),
        (
            "bytes",
            f"at most {size_text(terms.bytes)}" + (f", {terms.bytes / size:.1f} times these files" if size else ""),
        ),
        ("sessions", f"at most {terms.sessions}"),
        ("mode", "stream: can be cut off" if terms.mode == "stream" else "direct: PERMANENT, NOT REVOCABLE"),
    ]
    return rows


def decided_rows(seen: Review, zone: tzinfo | None = None) -> Rows:
    """Say who decided what, what is missing, and where the request stands."""
    found, sharing = seen.view.found, seen.view.version.version.sharing
    phase = "granted, and open as the broker says" if seen.view.phase == "open" else str(found.phase)
    if found.stopped or found.reason:
        phase = f"{'closed' if found.phase == 'closed' else 'being stopped'}: {found.reason or found.stopped}"
    rows: Rows = [("stands", phase), ("guarded by", f"roster {sharing.roster}: {sharing.quorum_text()}")]
    for item in found.decisions:
        decision = item.decision
        counts = decision.terms == seen.terms_digest and decision.person in seen.counts
        note = f", saying: {decision.note}" if decision.note else ""
        void = "" if counts else " (does not count any more)"
        rows.append(
            ("decided", f"{decision.person}: {decision.verdict}, {moment(item.time, seen.now, zone)}{void}{note}")
        )
    if not found.decisions:
        rows.append(("decided", "nobody yet"))
    if found.phase == "requested" and not found.stopped:
        rows.append(("missing", missing_text(sharing, seen)))
    if found.phase in ("requested", "granted"):
        sent = sorted(str(sharing.slots()[slot].person) for slot in seen.view.shares if slot in sharing.slots())
        rows.append(("shares sent", ", ".join(sent) or "none"))
    if found.granted:
        used = f"{size_text(seen.view.spent)}, {seen.view.sessions} of {seen.terms.sessions} sessions"
        rows.append(("used", f"{used}, as the broker says"))
    return rows


def missing_text(sharing: Sharing, seen: Review) -> str:
    """Say who may still make the quorum."""
    approved = {who for who, verdict in seen.counts.items() if verdict == "approve"}
    out = set(seen.barred) | {who for who, verdict in seen.counts.items() if verdict == "deny"}
    if met(sharing, approved):
        return "nobody: the quorum is there"
    parts = []
    for group in sharing.groups:
        persons = [str(holder.person) for holder in group.slots]
        needed = group.threshold - len(approved.intersection(persons))
        left = [person for person in persons if person not in approved | out]
        if needed > 0:
            parts.append(
                f"{needed} of {', '.join(left)}" if len(left) >= needed else f"{needed} of {group.name}: impossible"
            )
    return "; and ".join(parts)


def signed_rows(seen: Review, decision: Decision, zone: tzinfo | None = None) -> Rows:
    """Say what the signature will be about, digests whole."""
    rows: Rows = [
        ("verdict", decision.verdict),
        ("you", f"{decision.person}, slot {decision.slot}, device {_device_name(seen)}"),
        ("request", decision.request),
        ("terms", decision.terms),
        ("content", seen.terms.content),
        ("sharing", decision.sharing),
        ("trust root", f"{decision.root} (epoch {seen.root.epoch})"),
        ("note", decision.note or "none"),
        ("counts until", moment(decision.expires, seen.now, zone)),
    ]
    if decision.verdict == "approve":
        rows.append(("your share", _share_text(seen)))
        rows.append(("release key", seen.view.found.release_key_digest))
    return rows


def differences(seen: Review) -> list[tuple[str, str, str]]:
    """Compare with the last lease of the same beneficiary: (what, then, now). Empty where nothing differs."""
    if seen.last is None:
        return []
    old, new = _facts(seen.last), _facts(seen.view)
    return [(what, old[what], new[what]) for what in new if old[what] != new[what]]


def version_rows(view: VersionView, now: int, zone: tzinfo | None = None) -> Rows:
    """Say what a version is."""
    content, sharing = view.version.content, view.version.sharing
    rows: Rows = [("version", content.version), *_content_rows(view, now, zone)]
    rows += [("file", f"{file.path}, {size_text(file.size)}") for file in content.files]
    rows += [
        ("guarded by", f"roster {sharing.roster}: {sharing.quorum_text()}"),
        ("sharing", f"{view.version.sharing_digest}, generation {sharing.generation}"),
        ("log entry", str(view.logged.index)),
    ]
    return rows


def _content_rows(view: VersionView, now: int, zone: tzinfo | None) -> Rows:
    content = view.version.content
    rows: Rows = [
        ("content", view.version.content_digest),
        ("size", f"{size_text(content.size)} in {len(content.files)} files"),
        ("sealed by", f"{actor_name(content.sealer)}, {moment(view.version.sealed_at, now, zone)}"),
    ]
    rows += [(f"label {label.name}", label.value) for label in content.labels]
    rows += [("made from", digest) for digest in content.lineage]
    return rows


def _asker(request: Request) -> str:
    kind = "person" if isinstance(request.requester, Person) else "workload"
    return f"{actor_name(request.requester)} ({kind})"


def _device_name(seen: Review) -> str:
    holder = seen.root.device(seen.device)
    return holder[1].name if holder else seen.device[:16]


def _share_text(seen: Review) -> str:
    broker = seen.view.found.release_key.broker
    if seen.release_mode == "with-decision":
        return f"goes to {broker} with the decision, for these terms only"
    wait = int(seen.roster.cool_off) if seen.roster else 0
    after = f", {span(wait)} after the grant" if wait else ""
    return f"stays with you: it is sent later, with custody release{after}"


def _facts(view: RequestView) -> Mapping[str, str]:
    found = view.found
    terms: Terms = found.lease if found.granted else next(iter(found.terms.values()))
    content = view.version.version.content
    return {
        "asked by": _asker(found.request),
        "version": terms.version,
        "content": terms.content,
        "files": _names(content, indexes(terms.files)),
        "purpose": terms.purpose,
        "start window": span(terms.open_before - terms.not_before),
        "time after it": span(terms.not_after - terms.open_before),
        "bytes": size_text(terms.bytes),
        "sessions": str(terms.sessions),
        "mode": terms.mode,
        "guarded by": view.version.version.sharing.quorum_text(),
    }


def _names(content: Content, chosen: Iterable[int]) -> str:
    names = [content.files[index].path for index in chosen]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
