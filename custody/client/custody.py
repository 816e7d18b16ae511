"""The front door: what a program that wants weights talks to."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from custody.adapters.home import Home
from custody.adapters.surroundings import Surroundings
from custody.client.asking import SESSIONS, START_WITHIN, Span, Wish, make_request, seconds
from custody.client.identity import Identity, WorkloadIdentity
from custody.client.leases import Lease
from custody.client.link import Dial, Link, dial
from custody.client.requests import PendingRequest, file_request, find_request
from custody.client.settings import Memory, Settings
from custody.client.versions import Version, get_version
from custody.documents.actor import Person
from custody.documents.request import Mode
from custody.errors import DeniedError, FormatError, IntegrityError

__all__ = ["Custody"]

_NONCE: Final = 32
_SOMEBODY: Final = Person(person="somebody")


class Custody:
    """A connection to a deployment, for one identity. Close it, or use it as a context manager. Thread-safe.

    ``identity`` signs what this program asks; by default it is the workload whose SVID lies in the TLS files.
    ``memory`` keeps the newest that was seen between runs; without one this program starts with the pins alone each
    time, and still notices an old log, since every session and request gets an entry of its own in it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        identity: Identity | None = None,
        memory: Memory | None = None,
        around: Surroundings | None = None,
        connect: Dial = dial,
    ) -> None:
        around = around or Surroundings.real()
        self.settings: Final = settings
        self.link: Final = Link(settings, around, memory, connect)
        self.identity: Final = identity or WorkloadIdentity(settings.tls, around.sleep)

    @classmethod
    def connect(cls, home: str | Path, *, identity: Identity | None = None, remember: bool = True) -> Self:
        """Use the ``custody.toml`` in the folder ``home``, and its memory unless ``remember`` is false (a folder that
        cannot be written).

        Nothing is sent yet. Raises ``ConfigError`` naming what is missing.
        """
        found = Home(Path(home))
        return cls(Settings.of_home(found), identity=identity, memory=found if remember else None)

    def close(self) -> None:
        """Close the connection. Close sessions first."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def version(self, name: str) -> Version:
        """Fetch a version, ``name@label``, and verify it."""
        return get_version(self.link, name)

    def request(
        self,
        version: str,
        *,
        purpose: str,
        reason: str,
        duration: Span,
        beneficiary: str | None = None,
        content: str | None = None,
        files: Sequence[str] = (),
        start_within: Span = START_WITHIN,
        not_before: int | None = None,
        sessions: int = SESSIONS,
        bytes: int | None = None,  # noqa: A002 - the word of the document
        ticket: str = "",
        mode: Mode = "stream",
    ) -> PendingRequest:
        """Ask for a version. ``duration`` counts from the last allowed start, which is ``start_within`` after
        ``not_before`` (seconds since 1970; ``None``: now).

        ``beneficiary`` is the SPIFFE ID that may open the lease; by default this workload itself. ``content`` pins a
        content digest known from elsewhere. ``files`` are globs; ``bytes`` is plaintext over all sessions. Raises
        ``FormatError`` naming what is wrong, ``DeniedError`` where a rule or the policy says no.
        """
        found = self.version(version)
        if content is not None and content != found.digest:
            raise IntegrityError(f"{version} has content {found.digest[:16]}…, but {content[:16]}… is pinned")
        wish = Wish(
            purpose=purpose,
            reason=reason,
            beneficiary=beneficiary or self._own_name(),
            duration=seconds(duration, "duration"),
            files=files,
            start_within=seconds(start_within, "start window"),
            not_before=not_before,
            sessions=sessions,
            bytes=bytes,
            ticket=ticket,
            mode=mode,
        )
        nonce = self.link.around.rng(_NONCE).hex()
        write = partial(make_request, found.content, found.digest, wish, now=self.link.now(), nonce=nonce)
        write(_SOMEBODY)  # what is wrong with it is said before anybody is asked for a passphrase
        credential = self.identity.credential()
        return file_request(self.link, self.identity, credential, write(credential.actor))

    def _own_name(self) -> str:
        """Return the SPIFFE ID of this workload, for which it asks unless told otherwise."""
        if not isinstance(self.identity, WorkloadIdentity):
            raise FormatError("beneficiary: a person asks for a job", hint="name its SPIFFE ID with --for")
        return self.identity.spiffe

    def find(self, reference: str) -> PendingRequest:
        """Find a request by its digest or its lease's, whole or at least 8 digits of it."""
        return find_request(self.link, self.identity, reference)[0]

    def lease(self, reference: str) -> Lease:
        """Find a granted lease by its id or its request's digest. ``DeniedError`` where it is not granted."""
        pending = self.find(reference)
        status = pending.status()
        if status.phase == "closed":
            raise DeniedError(
                f"the lease is closed: {status.reason or 'no reason was given'}", hint="file a new request"
            )
        if status.granted is None:
            raise DeniedError(
                "the request is not granted yet", hint=f"custody show {pending.digest[:16]} says who decided"
            )
        return Lease(self.link, self.identity, status.granted, status.spent)
