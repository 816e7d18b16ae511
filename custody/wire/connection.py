"""One connection to one broker: mTLS, a deadline on every call, errors as ``CustodyError``s."""

from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from custody.wire.errors import raise_from_rpc
from custody.wire.memory import keep_memory
from custody.wire.pieces import READ
from custody.wire.tls import TlsFiles, channel_credentials
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerStub

__all__ = ["DEADLINE", "MAX_MESSAGE", "Connection"]

MAX_MESSAGE: Final = 32 << 20
"""Bytes of one message."""

DEADLINE: Final = 30.0
"""Seconds for a call that waits for nothing but its own work."""

_Message = TypeVar("_Message")
_Reply = TypeVar("_Reply")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_frame_size", 16_777_215),
)


class Connection:
    """Close it, or use it as a context manager. Safe to use from several threads.

    ``server_name`` is the DNS name in the broker's certificate.
    """

    def __init__(self, address: str, server_name: str, files: TlsFiles) -> None:
        keep_memory()
        self.address = address
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", server_name)]
        self._channel = grpc.secure_channel(address, channel_credentials(files), options=options)
        self._stub = BrokerStub(self._channel)
        # Of ``Read`` the messages are taken as bytes: see ``custody.wire.pieces``.
        self._read: grpc.UnaryStreamMultiCallable[pb.ReadRequest, bytes] = self._channel.unary_stream(
            READ, request_serializer=pb.ReadRequest.SerializeToString
        )

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[_Message, _Reply]", message: _Message, deadline: float = DEADLINE
    ) -> _Reply:
        try:
            return method(message, timeout=deadline)
        except grpc.RpcError as error:
            raise_from_rpc(error, self.address)
