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

__all__ = ["AHEAD", "DEADLINE", "MAX_MESSAGE", "Connection"]

MAX_MESSAGE: Final = 32 << 20
"""Bytes of one message."""

AHEAD: Final = 4 << 20
"""Bytes of a stream that wait for their reader, at most: four messages. With a round trip of 20 ms still 200 MB/s."""

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
    # What a stream may send ahead of its reader. gRPC would otherwise find out by itself how much the network takes,
    # tens of MiB on a fast one: memory, and bytes that are charged and may never be asked for.
    ("grpc.http2.lookahead_bytes", AHEAD),
    ("grpc.http2.bdp_probe", 0),
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
