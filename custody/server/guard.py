"""The edge of every call: who calls, and what of an error goes out."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
import structlog
from grpc.aio import ServicerContext

from custody.broker.context import Peer
from custody.broker.upkeep import Refusals
from custody.errors import CustodyError
from custody.wire.errors import status_of
from custody.wire.tls import peer_identity

__all__ = ["Guard"]

_T = TypeVar("_T")
_log: Final = structlog.get_logger("custody.server")


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
            _log.exception("call failed", method=_method(context))
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the broker's log says more")
            raise

    async def refuse(self, context: "ServicerContext[Any, Any]", error: CustodyError) -> None:
        """End the call with the status of an error."""
        code, message, trailing = status_of(error)
        _log.info("call refused", method=_method(context), status=code.name, reason=type(error).__name__)
        await context.abort(code, message, trailing)


def _method(context: "ServicerContext[Any, Any]") -> str:
    with contextlib.suppress(AttributeError):
        return bytes(context._rpc_event.call_details.method).decode("ascii", "replace")  # type: ignore[attr-defined]  # noqa: SLF001
    return "?"
