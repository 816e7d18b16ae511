"""Where an audit gets its bytes. Nothing that comes from here is believed before it was verified."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """The published objects of a log by path: ``checkpoint``, ``checkpoints/<size>``, ``tile/...``, ``documents/...``.

    ``fetch`` raises ``NotFoundError`` for what is not there, ``FormatError`` or ``IntegrityError`` for what cannot be
    an object (a link, something far too large), ``UnavailableError`` where nothing can be said: that ends the audit.
    ``names`` yields the paths that begin with a prefix; it is ``None`` where they cannot be listed. ``ahead`` is told
    which objects come next, where it is better to fetch several together; what it cannot have, ``fetch`` speaks of.
    """

    fetch: Callable[[str], bytes]
    names: Callable[[str], Iterable[str]] | None = None
    ahead: Callable[[Sequence[str]], None] | None = None
