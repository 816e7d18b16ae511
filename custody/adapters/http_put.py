"""A body sent through a presigned PUT, again if need be: the same bytes under the same URL change nothing."""

import http.client
import ssl
from collections.abc import Callable
from typing import Final

from custody.adapters.backoff import Backoff
from custody.adapters.http_blob import PATIENCE
from custody.adapters.http_pool import Deadline, HttpPool, Target, send
from custody.adapters.http_stretch import SLOWEST, TRANSIENT, Answer, AnswerError, reason_of
from custody.adapters.surroundings import Around
from custody.errors import ConflictError, UnavailableError
from custody.ports import Presigned
from custody.segments.streams import StillWanted, still_wanted

__all__ = ["put"]

_DRAINED: Final = 64 << 10
_AGAIN: Final = TRANSIENT | {http.client.CONFLICT}  # the key is being written just now, by an attempt of ours perhaps


def put(
    what: str,
    sign: Callable[[], Presigned],
    body: bytes | bytearray | memoryview,
    pool: HttpPool,
    around: Around,
    *,
    patience: float = PATIENCE,
    wanted: StillWanted = still_wanted,
) -> None:
    """Send ``body``; durable when this returns. ``what`` names it in messages; ``sign`` gives a fresh URL each time.

    ``ConflictError`` when it must be new and the key is taken, ``UnavailableError`` when ``patience`` seconds (and one
    more for each MiB) did not suffice, ``ConfigError`` when the store refuses even a fresh URL, ``FormatError`` when
    what was signed is no request. What ``wanted`` raises ends it within a second or two.
    """
    deadline = pool.deadline(around.monotonic, patience + len(body) / SLOWEST, wanted)
    backoff = Backoff(around.rng, deadline.at)
    refused = unheard = False
    cause: Exception | None
    while True:
        wanted()
        try:
            answer = _attempt(sign(), memoryview(body), pool, deadline)
        except (AnswerError, OSError, http.client.HTTPException) as error:
            unheard, reason, cause = True, reason_of(error), error
        else:
            status = answer.meaning
            if status in (http.client.OK, http.client.CREATED, http.client.NO_CONTENT):
                return
            if status == http.client.PRECONDITION_FAILED:
                if unheard:
                    return  # an earlier attempt of ours was taken, its answer lost; sizes and digests are checked later
                raise ConflictError(f"store: {what} exists")
            if status not in _AGAIN and (status != http.client.FORBIDDEN or refused):
                late = "is this computer's clock right? has the upload taken too long?"
                raise answer.refusal(what, late if status == http.client.FORBIDDEN else "ask whoever runs the store")
            refused = refused or status == http.client.FORBIDDEN
            # A gateway that waited in vain says nothing of what the store behind it took.
            unheard = unheard or status >= http.client.INTERNAL_SERVER_ERROR or status == http.client.REQUEST_TIMEOUT
            reason, cause = f"it answered {answer}", None
        if not deadline.rest(around.sleep, backoff):
            raise UnavailableError(f"store: {what}: {reason}", hint="seal again") from cause


def _attempt(signed: Presigned, body: memoryview, pool: HttpPool, deadline: Deadline) -> Answer:
    target = Target.of_signed(signed)
    headers = {name.title(): value for name, value in signed.headers.items()} | {"Content-Length": str(len(body))}
    with pool.borrow(target, deadline) as connection:
        connection.request("PUT", target.path, headers=headers)
        try:
            send(connection.sock, body, deadline)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            early = True  # a store that refuses what it has not read yet may have said why
        else:
            early = False
        response = connection.getresponse()
        said = response.read(_DRAINED)
        if early or not response.isclosed():
            connection.close()  # an answer that long is not worth its connection
        return Answer.of(response.status, said)
