"""What a person's tool does on the wire: it fetches, hands everything to what verifies, and sends what was signed.

Nothing a broker says is returned unverified. What has been seen is kept (``Memory``), so that an older log or trust
root is noticed by the next command too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from custody.custodian.fold import (
    Chain,
    RequestView,
    VersionView,
    missing_documents,
    read_request,
    read_version,
)
from custody.custodian.logbook import Logbook
from custody.documents.actor import Person
from custody.documents.dsse import Envelope, Signer, sign
from custody.documents.hello import Hello
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt, Verified
from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from custody.ports import Clock, Rng
from custody.rules.trust import Seen, Trust
from custody.tlog.policy import quorum_time
from custody.values import Time
from custody.wire.calls import Calls
from custody.wire.messages import RequestReply, VersionReply

__all__ = ["Desk", "Freshness", "Memory"]

_T = TypeVar("_T")
_PAGE: Final = 50
_PAGES: Final = 200
_NONCE: Final = 32
_ATTEMPTS: Final = 4
_WHOLE: Final = 64
_LEAST: Final = 8
_MAX_SKEW: Final = 300


class Memory(Protocol):
    """Keeps the highest epoch and the largest tree that were seen."""

    def seen(self) -> Seen:
        """Return what was seen; zeros at first."""
        ...

    def remember(self, seen: Seen, root: str) -> None:
        """Keep what was verified; ``root`` is the digest of the newest trust root."""
        ...


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new what was verified is.

    ``proven``: the log answered this tool's own nonce. Otherwise the last entry under a witnessed checkpoint named the
    trust root. ``witnessed`` is the earliest counted cosignature time over that checkpoint (seconds), ``size`` its
    size. ``why`` says what stood in the way where neither could be had.
    """

    proven: bool
    witnessed: int
    size: int
    why: str = ""


class Desk:
    """A person's (or job's) verified view of one deployment, over one connection. For one thread."""

    def __init__(
        self, calls: Calls, trust: Trust, memory: Memory, *, clock: Clock, rng: Rng, sleep: Callable[[float], None]
    ) -> None:
        self._calls = calls
        self._memory = memory
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._versions: dict[str, VersionView] = {}
        self.trust: Final = trust
        smallest = trust.seen.size
        logged = self._repeat(calls.get_roots)
        trust.take_roots(logged)
        self._head: Verified = max(
            (trust.check(receipt) for _, receipt in logged), key=lambda item: item.checkpoint.size
        )
        if self._head.checkpoint.size < smallest:
            raise IntegrityError(
                f"rollback: a log of {self._head.checkpoint.size} entries is shown, {smallest} were seen before",
                hint="somebody shows an old log; ask the operators, and do not sign",
            )
        self.chain: Final = Chain.of(trust)
        self._remember()

    # -- looking

    def logbook(self) -> Logbook:
        """Return the log, as the broker serves it."""
        return Logbook(lambda path: self._repeat(lambda: self._calls.get_log_object(path)), self.trust.policy)

    def freshness(self) -> Freshness:
        """Say how new the trust root is, without signing anything: by the last entry of the witnessed log."""
        earliest, _ = quorum_time(self._head.cosigned)
        size = self._head.checkpoint.size
        try:
            named = self.logbook().newest_root(self._head.checkpoint)
        except (NotFoundError, UnavailableError) as error:
            return Freshness(proven=False, witnessed=earliest, size=size, why=error.message)
        if named != self.trust.root_digest:
            raise IntegrityError(
                "the log names another trust root in force than the newest one shown",
                hint="somebody holds back a newer trust root; do not sign",
            )
        return Freshness(proven=False, witnessed=earliest, size=size)

    def version(self, name: str, *, wraps: bool = True) -> VersionView:
        """Fetch and judge a version. ``wraps=False`` takes one that was looked at before."""
        if not wraps and name in self._versions:
            return self._versions[name]
        return self._judge_version(self._repeat(lambda: self._calls.get_version(name)), name)

    def versions(self) -> Iterator[VersionView]:
        """Yield every version."""
        for reply in self._pages(lambda token: self._calls.list_versions(token, _PAGE)):
            yield self._judge_version(reply, reply.version)

    def request(self, digest: str) -> RequestView:
        """Fetch and judge a request by its whole digest."""
        reply = self._repeat(lambda: self._calls.get_request(digest))
        if reply.request != digest:  # what the judged entries must then be of
            raise IntegrityError("the broker shows another request")
        return self._judge(reply)

    def requests(self, *, closed: bool = False) -> Iterator[RequestView | tuple[str, CustodyError]]:
        """Yield the requests that concern the caller, in order of filing.

        One that does not verify is yielded as its digest and the error: it is not believed, and hides no other.
        """
        for reply in self._pages(
            lambda token: self._calls.list_requests(closed=closed, page_token=token, page_size=_PAGE)
        ):
            try:
                yield self._judge(reply)
            except (IntegrityError, DeniedError, FormatError, NotFoundError) as error:
                yield reply.request, error

    def last_lease(self, view: RequestView) -> RequestView | None:
        """Return the newest lease granted to the same beneficiary before this request was filed, if one is known.

        Judged like any other; one that does not verify raises.
        """
        found: RequestReply | None = None
        for reply in self._pages(
            lambda token: self._calls.list_requests(closed=True, page_token=token, page_size=_PAGE)
        ):
            if reply.request == view.found.digest:
                break
            entries = [Entry.parse(item.entry) for item in reply.receipts]
            if any(entry.type == "grant" and entry.beneficiary == view.found.request.beneficiary for entry in entries):
                found = reply
        return self._judge(found) if found else None

    def find(self, reference: str) -> RequestView:
        """Find a request by its digest or that of its terms, or by a prefix of at least 8 digits that fits one only."""
        if not _LEAST <= len(reference) <= _WHOLE or set(reference) - set("0123456789abcdef"):
            raise FormatError(
                f"{reference[:80]!a} is not a request or lease", hint="give at least the first 8 digits of its digest"
            )
        if len(reference) == _WHOLE:
            try:
                return self.request(reference)
            except NotFoundError:
                pass  # it may be a lease
        found: dict[str, RequestReply] = {}
        for reply in self._pages(
            lambda token: self._calls.list_requests(closed=True, page_token=token, page_size=_PAGE)
        ):
            # No field is believed: entries and terms must be of the request, and judging verifies the entries.
            entries = [Entry.parse(item.entry) for item in reply.receipts]
            names = {reply.request, *(str(entry.terms) for entry in entries if entry.request == reply.request)}
            if any(name.startswith(reference) for name in names):
                found[reply.request] = reply
        if not found:
            raise NotFoundError(f"there is no request or lease {reference[:16]} that concerns you")
        if len(found) > 1:
            some = ", ".join(digest[:16] for digest in list(found)[:4])
            raise DeniedError(f"{reference} fits {len(found)} requests: {some}", hint="give more digits")
        return self._judge(next(iter(found.values())))

    # -- saying

    def greet(self, person: str, signer: Signer) -> Verified:
        """Ask the log with a nonce which root is in force; it must be the newest one known, in a tree no smaller.

        Raises ``IntegrityError``; ``ConflictError`` where the trust root has changed meanwhile; ``DeniedError`` where
        this computer's clock and the witnesses' differ.
        """
        hello = sign(
            Hello(
                deployment=self.trust.deployment,
                nonce=self._rng(_NONCE).hex(),
                actor=Person(person=person),
                issued=Time(self._clock()),
            ),
            [signer],
        )
        receipt = self._repeat(lambda: self._calls.hello(hello), repeat=False)
        try:
            self.trust.check_current(receipt, hello)
        except IntegrityError:
            self._require_no_newer_root()
            raise
        verified = self.trust.check_document(receipt, "hello", hello)
        earliest, latest = quorum_time(verified.cosigned)
        off = self._clock() - latest if self._clock() > latest else min(0, self._clock() - earliest)
        if abs(off) > _MAX_SKEW:
            raise DeniedError(
                f"this computer's clock is {abs(off)} seconds {'ahead of' if off > 0 else 'behind'} the witnesses'",
                hint="set the clock that is wrong",
            )
        self._head = verified
        self._remember()
        return verified

    def decide(self, envelope: Envelope) -> Verified:
        """Send a decision; it counts when this returns. The same one may be sent again."""
        return self._confirmed("decision", envelope, self._repeat(lambda: self._calls.decide(envelope)))

    def release(self, envelope: Envelope, wrapped: bytes) -> Verified:
        """Send a wrapped share with its release."""
        return self._confirmed("release", envelope, self._repeat(lambda: self._calls.release_share(envelope, wrapped)))

    # -- inside

    def _require_no_newer_root(self) -> None:
        """Tell a trust root that came meanwhile from a lie about it: a new one shows up when it is asked for."""
        self.trust.take_roots(self._repeat(self._calls.get_roots))
        if self.trust.root_digest != self.chain.digests[-1]:
            raise ConflictError("the trust root changed while you looked; nothing was signed", hint="look at it again")

    def _confirmed(self, kind: str, envelope: Envelope, receipt: Receipt) -> Verified:
        verified = self.trust.check_document(receipt, kind, envelope)
        self._remember()
        return verified

    def _judge_version(self, reply: VersionReply, name: str) -> VersionView:
        view = read_version(self.trust, self.chain, name, reply)
        self._versions[name] = view
        self._remember()
        return view

    def _judge(self, reply: RequestReply) -> RequestView:
        first = Entry.parse(reply.receipts[0].entry) if reply.receipts else None
        if first is None or first.version is None:
            raise IntegrityError(f"the broker does not show the entry of request {reply.request[:16]}")
        version = self.version(first.version, wraps=False)
        more = [self._document(digest) for digest in missing_documents(reply)]
        view = read_request(self.trust, self.chain, version, reply, more)
        self._remember()
        return view

    def _document(self, digest: str) -> Envelope:
        envelope = Envelope.parse(self._repeat(lambda: self._calls.get_log_object(f"documents/{digest}")))
        if envelope.envelope_digest != digest:
            raise IntegrityError(f"document {digest} of the log is another one")
        return envelope

    def _pages(self, fetch: Callable[[str], tuple[list[_T], str]]) -> Iterator[_T]:
        token = ""
        for _ in range(_PAGES):
            after = token
            page, token = self._repeat(lambda: fetch(after))  # noqa: B023 - called at once
            yield from page
            if not token:
                return

    def _repeat(self, call: Callable[[], _T], *, repeat: bool = True) -> _T:
        """Call, a few times where the broker does not answer: a person waits for it."""
        for attempt in range(_ATTEMPTS if repeat else 1):
            if attempt:
                self._sleep(0.3 * 2**attempt)
            try:
                return call()
            except UnavailableError as error:
                failure = error
        raise failure

    def _remember(self) -> None:
        self._memory.remember(self.trust.seen, self.trust.root_digest)
