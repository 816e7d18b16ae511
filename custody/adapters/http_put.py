"""A body sent through a presigned PUT, again if need be: the same bytes under the same URL change nothing."""

import http.client
from collections.abc import Callable, Iterator
from typing import Final

from custody.adapters.backoff import Backoff
from custody.adapters.http_blob import PATIENCE
from custody.adapters.http_pool import Deadline, HttpPool, Target
from custody.adapters.http_stretch import SLOWEST, TRANSIENT, AnswerError, reason_of
from custody.adapters.surroundings import Around
from custody.errors import ConfigError, ConflictError, UnavailableError
from custody.ports import Presigned

__all__ = ["put"]

_DRAINED: Final = 64 << 10
_PIECE: Final = 256 << 10


def put(
    what: str,
    sign: Callable[[], Presigned],
    body: bytes | bytearray | memoryview,
    pool: HttpPool,
    around: Around,
    *,
    patience: float = PATIENCE,
) -> None:
    """Send ``body``; durable when this returns. ``what`` names it in messages; ``sign`` gives a fresh URL each time.

    ``ConflictError`` when it must be new and the key is taken, ``UnavailableError`` when ``patience`` seconds (and one
    more for each MiB) did not suffice, ``ConfigError`` when the store refuses even a fresh URL.
    """
    deadline = pool.deadline(around.monotonic, patience + len(body) / SLOWEST)
    backoff = Backoff(around.rng, deadline.at)
    refused = unheard = False
    cause: Exception | None
    while True:
        try:
            status = _attempt(sign(), memoryview(body), pool, deadline)
        except (AnswerError, OSError, http.client.HTTPException) as error:
            unheard, reason, cause = True, reason_of(error), error
        else:
            if status in (http.client.OK, http.client.CREATED, http.client.NO_CONTENT):
                return
            if status == http.client.PRECONDITION_FAILED:
                if unheard:
                    return  # an earlier attempt of ours was taken, its answer lost; sizes and digests are checked later
                raise ConflictError(f"store: {what} exists")
            if status not in TRANSIENT and (status != http.client.FORBIDDEN or refused):
                hint = "is this computer's clock right? has the upload taken too long?"
                raise ConfigError(f"store: {what}: HTTP {status}", hint=hint)
            refused = refused or status == http.client.FORBIDDEN
            # A gateway that waited in vain says nothing of what the store behind it took.
            unheard = unheard or status >= http.client.INTERNAL_SERVER_ERROR or status == http.client.REQUEST_TIMEOUT
            reason, cause = f"it answered {status}", None
        pause = backoff.pause(around.monotonic())
        if pause is None:
            raise UnavailableError(f"store: {what}: {reason}", hint="seal again") from cause
        around.sleep(pause)


def _attempt(signed: Presigned, body: memoryview, pool: HttpPool, deadline: Deadline) -> int:
    target = Target.of(signed.url)
    headers = {name.title(): value for name, value in signed.headers.items()} | {"Content-Length": str(len(body))}
    with pool.borrow(target, deadline) as connection:
        connection.request("PUT", target.path, body=_pieces(body, connection, deadline), headers=headers)
        response = connection.getresponse()
        response.read(_DRAINED)
        if not response.isclosed():
            connection.close()  # an answer that long is not worth its connection
        return response.status


def _pieces(body: memoryview, connection: http.client.HTTPConnection, deadline: Deadline) -> Iterator[memoryview]:
    """Yield the body in pieces, each with a timeout of its own: of one that is sent whole it covers all."""
    for start in range(0, len(body), _PIECE):
        if deadline.passed:
            raise TimeoutError("timed out")
        connection.sock.settimeout(deadline.timeout)
        yield body[start : start + _PIECE]
