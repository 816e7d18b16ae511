"""Errors over gRPC: status, one line, and the hint in trailing metadata; and back into the same exception.

What a peer may be told is decided here. A ``CustodyError`` was written for the party that made the mistake and goes
out as it is; anything else is ours and goes out as ``internal error`` with nothing in it.
"""

from typing import Final, NoReturn, cast

import grpc

from custody.errors import (
    ConfigError,
    ConflictError,
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    InterruptedByUser,
    NotFoundError,
    UnavailableError,
)

__all__ = ["HINT", "from_rpc", "raise_from_rpc", "status_of"]

HINT: Final = "custody-hint"
_OURS: Final = "custody-status"
"""In the trailing metadata of every error of a broker; what lacks it is the transport's."""
_MAX_TEXT: Final = 500

_BY_STATUS: Final[dict[str, type[CustodyError]]] = {
    kind.status: kind
    for kind in (
        FormatError,
        IntegrityError,
        DeniedError,
        NotFoundError,
        ConflictError,
        UnavailableError,
        ConfigError,
        InterruptedByUser,
    )
}
_UNREACHABLE: Final = "check the address, the network, and that the certificates on both sides are current"


def status_of(error: CustodyError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return status, message and trailing metadata. Metadata is ASCII; what is not is escaped."""
    hint = error.hint[:_MAX_TEXT].encode("ascii", "backslashreplace").decode()
    trailing = ((_OURS, error.status.lower()), *(((HINT, hint),) if hint else ()))
    return grpc.StatusCode[error.status], error.message[:_MAX_TEXT], trailing


def from_rpc(error: grpc.RpcError, address: str) -> CustodyError:
    """Return the exception that a failed call stands for."""
    # Every RpcError that a call raises is a grpc.Call as well; the stubs do not say so.
    call = cast("grpc.Call", error)
    code = call.code()
    text = _visible(call.details() or "")
    trailing = {key: str(value) for key, value in call.trailing_metadata() or ()}
    hint = _visible(trailing.get(HINT, ""))
    if code is grpc.StatusCode.UNAVAILABLE and _OURS not in trailing:
        return UnavailableError(f"the broker at {address} cannot be reached: {text}", hint=_UNREACHABLE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError(f"the broker at {address} did not answer in time", hint="try again")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return UnavailableError(f"the broker at {address} is busy: {text}", hint="try again in a moment")
    kind = _BY_STATUS.get(code.name)
    if kind is None:
        return UnavailableError(f"the broker at {address} answered {code.name}: {text}")
    return kind(text, hint=hint)


def raise_from_rpc(error: grpc.RpcError, address: str) -> NoReturn:
    """Raise what a failed call stands for."""
    raise from_rpc(error, address) from None


def _visible(text: str) -> str:
    """A broker is not trusted with the terminal either."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_TEXT]
