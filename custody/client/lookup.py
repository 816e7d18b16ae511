"""Finding a request among those that concern the caller, by what a person types.

The broker only offers candidates. Which request a reply is of, and which terms belong to it, is recomputed from the
envelopes: a broker that answers with another of the caller's own requests would have the wrong lease ended or opened.
"""

import re
from collections.abc import Iterator
from typing import Final

from custody.client.link import Link
from custody.documents.request import Request
from custody.documents.terms import Terms
from custody.errors import DeniedError, FormatError, IntegrityError, NotFoundError
from custody.wire.messages import RequestReply

__all__ = ["look_up"]

_PAGE: Final = 50
_PAGES: Final = 200
_REFERENCE: Final = re.compile(r"[0-9a-f]{8,64}")
_WHOLE: Final = 64


def look_up(link: Link, reference: str) -> RequestReply:
    """Return the view of the one request whose digest, or whose terms' digest, begins with ``reference``.

    Raises ``FormatError`` for what is no digest, ``NotFoundError``, ``DeniedError`` where several fit, and
    ``IntegrityError`` where the broker answers with something else. That the log holds it is not verified here.
    """
    if not _REFERENCE.fullmatch(reference):
        raise FormatError(
            f"{reference[:80]!a} is not a request or lease", hint="give at least the first 8 digits of its digest"
        )
    if len(reference) == _WHOLE:
        try:
            reply = link.call(lambda calls: calls.get_request(reference))
        except NotFoundError:
            pass  # it may be a lease id
        else:
            if _names(reply)[0] != reference:
                raise IntegrityError("the broker shows another request")
            return reply
    found: dict[str, RequestReply] = {}
    for reply in _all(link):
        names = _names(reply)
        if any(name.startswith(reference) for name in names):
            found[names[0]] = reply
    if not found:
        raise NotFoundError(f"there is no request or lease {reference[:16]} that concerns you")
    if len(found) > 1:
        some = ", ".join(digest[:16] for digest in list(found)[:4])
        raise DeniedError(f"{reference} fits {len(found)} requests: {some}", hint="give more digits")
    return next(iter(found.values()))


def _names(reply: RequestReply) -> list[str]:
    """Return the digest of the request that a reply holds, then those of the terms made for it."""
    requests = [item.digest for item in reply.envelopes if item.payloadType == Request.payload_type]
    if requests != [reply.request]:
        raise IntegrityError("the broker shows a request without its document")
    terms = [item for item in reply.envelopes if item.payloadType == Terms.payload_type]
    return requests + [item.digest for item in terms if item.document(Terms).request == reply.request]


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
