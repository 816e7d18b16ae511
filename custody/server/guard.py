"""The edge of every call: who calls, and what of an error goes out."""

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, TypeVar

import grpc
from grpc.aio import ServicerContext

from custody.broker.context import Peer
from custody.broker.refusals import Refusals
from custody.crypto.svid import identity_of
from custody.errors import CustodyError, DeniedError, FormatError
from custody.server.room import Room
from custody.wire.errors import status_of
from custody.wire.tls import is_hybrid, peer_certificate

__all__ = ["MAX_CALLS", "MAX_CALLS_OF_ONE", "Guard", "MethodNames"]

MAX_CALLS: Final = 8192
"""Calls under way at once, long polls and streams that wait for a place among them. What is beyond is refused, not
queued, stops excepted.
"""

MAX_CALLS_OF_ONE: Final = 2048
"""Of one identity. A fleet has one, and may well come all at once."""

_T = TypeVar("_T")
_log: Final = logging.getLogger("custody.server")
_method: ContextVar[str] = ContextVar("method", default="?")
_caller: ContextVar[Peer | None] = ContextVar("caller", default=None)
_CAPITALS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class MethodNames(grpc.GenericRpcHandler):
    """Notes which method is called, for the broker's own log. Of the handlers that are asked for a method it is the
    first: an interceptor would do the same, and cost each call a coroutine more.
    """

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        """Set it for the task that will run the method, and leave that to the next handler."""
        _method.set(handler_call_details.method.rpartition("/")[2])


class Guard:
    """Identifies peers of one trust domain, turns exceptions into statuses, and notes who was refused what.

    ``most`` calls are under way at once, ``of_one`` of each identity.
    """

    def __init__(
        self, trust_domain: str, refusals: Refusals, *, most: int = MAX_CALLS, of_one: int = MAX_CALLS_OF_ONE
    ) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._refusals = refusals
        self._room = Room(most, of_one, "too many calls are under way")

    async def peer(self, context: "ServicerContext[Any, Any]") -> Peer:
        """Return the caller. A certificate without exactly one SPIFFE ID of our trust domain ends the call, and so does
        a connection that a collector may read one day.
        """
        connection = context.auth_context()
        peer = _peer_of(peer_certificate(connection))
        if not peer.identity.startswith(self._prefix):
            self._refusals.stranger()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not permitted")
        _caller.set(peer)
        if not is_hybrid(connection):
            message = "TLS without a hybrid key exchange"
            await self.refuse(context, DeniedError(message, hint="offer X25519MLKEM768: a current gRPC does"))
        return peer

    def place(self, peer: Peer) -> AbstractContextManager[None]:
        """Count a call while the block runs. Raises ``UnavailableError`` when too many are under way."""
        return self._room.place(peer.identity)

    async def answer(
        self, context: "ServicerContext[Any, Any]", work: Callable[[Peer], Awaitable[_T]], *, bounded: bool = True
    ) -> _T:
        """Run ``work`` for the caller and return what it returns, or end the call with the status of its error.

        ``bounded`` is false for what must get through however much is under way: stops.
        """
        peer = await self.peer(context)
        try:
            with self.place(peer) if bounded else nullcontext():
                return await work(peer)
        except CustodyError as error:
            await self.refuse(context, error)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:
            # What went wrong is ours to know: the traceback stays here, the caller learns nothing of it.
            _log.exception("call failed", extra=_fields())
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the broker's log says more")
            raise

    async def refuse(self, context: "ServicerContext[Any, Any]", error: CustodyError) -> None:
        """End the call with the status of an error."""
        code, message, trailing = status_of(error)
        _log.info("call refused", extra=_fields(status=code.name))
        if (peer := _caller.get()) is not None:
            self._refusals.known(peer, _CAPITALS.sub("-", _method.get()).lower(), error)
        await context.abort(code, message, trailing)


@lru_cache(maxsize=4096)
def _peer_of(leaf: bytes) -> Peer:
    """Return who a certificate says it is; the identity of one that names nobody is empty. TLS has judged it before,
    at the handshake; a peer that calls often is read once.
    """
    try:
        identity = identity_of(leaf)
    except FormatError:
        identity = ""
    return Peer(identity, hashlib.sha256(leaf).hexdigest())


def _fields(**more: str) -> dict[str, dict[str, str]]:
    """What the broker's own log says of the call that is under way."""
    peer = _caller.get()
    return {"fields": {"method": _method.get(), "caller": peer.identity if peer else "?", **more}}
