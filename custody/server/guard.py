"""The edge of every call: who calls, and what of an error goes out."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import grpc
import structlog
from grpc.aio import ServicerContext

from custody.broker.context import Peer
from custody.broker.upkeep import Refusals
from custody.errors import CustodyError
from custody.wire.errors import status_of
from custody.wire.tls import peer_identity

__all__ = ["Guard", "MethodNames"]

_T = TypeVar("_T")
_Asked = TypeVar("_Asked")
_Answered = TypeVar("_Answered")
_log: Final = structlog.get_logger("custody.server")
_method: ContextVar[str] = ContextVar("method", default="?")
_caller: ContextVar[str] = ContextVar("caller", default="?")


class MethodNames(grpc.aio.ServerInterceptor):
    """Notes which method is called, for the broker's own log."""

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[_Asked, _Answered] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[_Asked, _Answered] | None":
        """Set it for the task that will run the method."""
        _method.set(handler_call_details.method.rpartition("/")[2])
        return await continuation(handler_call_details)


class Guard:
    """Identifies peers and turns exceptions into statuses. One trust domain; ``revoked`` are denied serial numbers."""

    def __init__(self, trust_domain: str, refusals: Refusals) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._refusals = refusals

    async def peer(self, context: "ServicerContext[Any, Any]") -> Peer:
        """Return the caller. A certificate without exactly one SPIFFE ID of our trust domain ends the call."""
        identity = peer_identity(context.auth_context())
        if identity is None or not identity.startswith(self._prefix):
            self._refusals.add()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not permitted")
        _caller.set(str(identity))
        return Peer(str(identity))

    async def answer(self, context: "ServicerContext[Any, Any]", work: Callable[[Peer], Awaitable[_T]]) -> _T:
        """Run ``work`` for the caller and return what it returns, or end the call with the status of its error."""
        peer = await self.peer(context)
        try:
            return await work(peer)
        except CustodyError as error:
            await self.refuse(context, error)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:
            # What went wrong is ours to know: the traceback stays here, the caller learns nothing of it.
            _log.exception("call failed", method=_method.get(), caller=_caller.get())
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the broker's log says more")
            raise

    async def refuse(self, context: "ServicerContext[Any, Any]", error: CustodyError) -> None:
        """End the call with the status of an error."""
        code, message, trailing = status_of(error)
        _log.info("call refused", method=_method.get(), caller=_caller.get(), status=code.name)
        await context.abort(code, message, trailing)
