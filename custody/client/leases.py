"""A lease: what a quorum granted, and sessions of it."""

from collections.abc import Sequence
from typing import Final

from custody.client.asking import choose_files
from custody.client.identity import Identity
from custody.client.link import Link
from custody.client.live import Live
from custody.client.session import FileInfo, Session
from custody.client.starting import Note, Start, ignore_note
from custody.client.stopping import stop
from custody.client.versions import get_version
from custody.documents.content import Content
from custody.documents.request import indexes
from custody.documents.terms import Terms
from custody.entries.receipt import Receipt
from custody.errors import DeniedError, FormatError, IntegrityError

__all__ = ["PATIENCE", "Lease"]

PATIENCE: Final = 900.0
"""Seconds that a job waits for a broker that is away, or for shares that a restarted one must be sent again."""


class Lease:
    """A granted lease. ``id`` is the digest of its ``terms``; ``spent`` the bytes that were spent when it was found."""

    def __init__(self, link: Link, identity: Identity, terms: Terms, spent: int | None = None) -> None:
        self._link = link
        self._identity = identity
        self._spent = spent
        self.terms: Final = terms
        self.id: Final = terms.digest

    def content(self) -> Content:
        """Fetch and verify what the lease is of: the log's entry of the version, and the sealer's signature."""
        version = get_version(self._link, self.terms.version)
        if version.digest != self.terms.content:
            raise IntegrityError(f"the lease is of another content of {self.terms.version} than the log holds")
        return version.content

    def files(self, globs: Sequence[str] = ()) -> list[FileInfo]:
        """Return the files of the lease, or those of them that match a glob, verified; no session is spent on it."""
        content = self.content()
        return [
            FileInfo(content.files[i].path, int(content.files[i].size)) for i in sorted(self._chosen(content, globs))
        ]

    def open(
        self,
        files: Sequence[str] = (),
        *,
        bytes: int | None = None,  # noqa: A002 - the word of the document
        content: str | None = None,
        patience: float = PATIENCE,
        return_lease: bool = False,
        note: Note = ignore_note,
    ) -> Session:
        """Open a session of some files (globs; none: all of the lease), verified before anything is served.

        ``bytes`` is the most plaintext that all reads of the session together may take, whole segments counted; by
        default each file once, or the lease's share of a session where that is more. In direct mode each file counts
        once and whole, however often it is read. ``content`` pins a content digest that the job knows from elsewhere.
        ``patience`` is for how many seconds a broken connection is mended, a lost session opened again, and missing
        shares waited for; ``note`` is told. ``return_lease`` gives the lease back when the session is closed. Raises
        ``DeniedError`` saying why not, ``IntegrityError`` for what does not verify.
        """
        if content is not None and content != self.terms.content:
            raise IntegrityError(f"the lease is of content {self.terms.content[:16]}…, but {content[:16]}… is pinned")
        listed = self.content()
        chosen = self._chosen(listed, files)
        if bytes is not None and bytes < 1:
            raise FormatError("bytes: must be more than zero")
        ceiling = self._ceiling(sum(listed.files[index].size for index in chosen)) if bytes is None else bytes
        if ceiling < 1:
            raise DeniedError("no bytes are left in the lease", hint="file a new request")
        start = Start(self.terms, self.id, chosen, ceiling)
        live = Live(self._link, self._identity, start, patience, note)
        try:
            return Session(live, self.give_back if return_lease else None)
        except BaseException:
            live.close()
            raise

    def give_back(self, reason: str = "done") -> Receipt:
        """End the lease before its time. Sent again until there is a receipt."""
        return stop(self._link, self._identity, "return", self.id, reason)

    def revoke(self, reason: str) -> Receipt:
        """End the lease at once, as somebody who answers for it. Sent again until there is a receipt."""
        return stop(self._link, self._identity, "revoke", self.id, reason)

    def _chosen(self, content: Content, globs: Sequence[str]) -> frozenset[int]:
        granted = frozenset(indexes(self.terms.files))
        chosen = choose_files(content, globs) & granted if globs else granted
        if not chosen:
            raise FormatError("none of these files is in the lease", hint="leave them out to open all of it")
        return chosen

    def _ceiling(self, size: int) -> int:
        """The bytes to ask for: what one session's share is, at least the files once, at most what is left. In direct
        mode the files once, whatever is left: the broker says where that is too little.
        """
        if self.terms.mode == "direct":
            return max(size, 1)
        # Once what was seen with the lease will do: where others have spent more since, the broker says so.
        spent, self._spent = self._spent, None
        if spent is None:
            spent = self._link.call(lambda calls: calls.get_request(self.terms.request)).bytes_spent
        left = int(self.terms.bytes) - spent
        share = int(self.terms.bytes) // int(self.terms.sessions)
        return min(left, max(size, share, 1))
