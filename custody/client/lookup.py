"""Finding a request among those that concern the caller, by what a person types."""

import re
from collections.abc import Iterator
from typing import Final

from custody.client.link import Link
from custody.documents.terms import Terms
from custody.errors import DeniedError, FormatError, NotFoundError
from custody.wire.messages import RequestReply

__all__ = ["look_up"]

_PAGE: Final = 50
_PAGES: Final = 200
_REFERENCE: Final = re.compile(r"[0-9a-f]{8,64}")
_WHOLE: Final = 64


def look_up(link: Link, reference: str) -> RequestReply:
    """Return the view of the one request whose digest, or whose terms' digest, begins with ``reference``.

    Raises ``FormatError`` for what is no digest, ``NotFoundError``, and ``DeniedError`` where several fit. The view is
    not verified.
    """
    if not _REFERENCE.fullmatch(reference):
        raise FormatError(
            f"{reference[:80]!a} is not a request or lease", hint="give at least the first 8 digits of its digest"
        )
    if len(reference) == _WHOLE:
        try:
            return link.call(lambda calls: calls.get_request(reference))
        except NotFoundError:
            pass  # it may be a lease id
    found: dict[str, RequestReply] = {}
    for reply in _all(link):
        names = [reply.request, *(item.digest for item in reply.envelopes if item.payloadType == Terms.payload_type)]
        if any(name.startswith(reference) for name in names):
            found[reply.request] = reply
    if not found:
        raise NotFoundError(f"there is no request or lease {reference[:16]} that concerns you")
    if len(found) > 1:
        some = ", ".join(digest[:16] for digest in list(found)[:4])
        raise DeniedError(f"{reference} fits {len(found)} requests: {some}", hint="give more digits")
    return next(iter(found.values()))


def _all(link: Link) -> Iterator[RequestReply]:
    token = ""
    for _ in range(_PAGES):
        after = token
        page, token = link.call(
            lambda calls: calls.list_requests(closed=True, page_token=after, page_size=_PAGE)  # noqa: B023 - called now
        )
        yield from page
        if not token:
            return
