"""The limit of streaming: a server that sends the same bytes again and again over mTLS, and does nothing else.

    python -m ops.bench.empty TLS-FOLDER [ours [FILE]]

No protobuf, no decryption, no check, no copy of ours at either end. With ``ours``, the settings are Custody's: a stream
runs no further ahead of its reader than ours, and the C library keeps the memory of messages. That makes it faster.

With a file, its bytes are read and decrypted into the messages, one ahead of the one that is sent, and whoever receives
them puts them where they belong and hashes them: a stream with the steps of ours, and nothing around them.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc

from custody.wire.connection import AHEAD
from custody.wire.memory import keep_memory
from custody.wire.pieces import blank_piece, split_piece
from ops.bench.limits import decrypt, hash_keyed

__all__ = ["EmptyCalls", "serve"]

_STREAM: Final = "Stream"
_CALL: Final = "Call"
_SERVICE: Final = "custody.bench.Empty"
_THREADS: Final = 8
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 32 << 20),
    ("grpc.http2.max_frame_size", 16_777_215),
)
_OURS: Final = (*_OPTIONS, ("grpc.http2.lookahead_bytes", AHEAD), ("grpc.http2.bdp_probe", 0))


class EmptyCalls:
    """A client of it. Close it, or use it as a context manager."""

    def __init__(self, address: str, tls: Path, *, ours: bool = False) -> None:
        key, certificate, ca = _files(tls)
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        self._channel = grpc.secure_channel(address, credentials, options=_OURS if ours else _OPTIONS)
        # Without serializers bytes go and come as they are.
        self._stream: Any = self._channel.unary_stream(f"/{_SERVICE}/{_STREAM}")
        self._call: Any = self._channel.unary_unary(f"/{_SERVICE}/{_CALL}")

    def stream(self, message: int, total: int) -> int:
        """Receive messages of so many bytes; return how many came in all."""
        return sum(len(data) for data in self._stream(b"%d %d" % (message, -(-total // message))))

    def steps(self, message: int, memory: memoryview) -> None:
        """Receive the pieces of a file as long as ``memory``, into it, and hash each."""
        for data in self._stream(b"%d %d" % (message, -(-len(memory) // message))):
            piece = split_piece(data)
            place = memory[piece.segment * message :][: len(piece.data)]
            place[:] = piece.data
            hash_keyed(place)

    def call(self) -> None:
        """Ask for nothing, and get it."""
        self._call(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()


def serve(tls: Path, *, ours: bool = False, source: Path | None = None) -> None:
    """Serve until the process is ended; the address is printed."""

    def stream(request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        size, count = map(int, request.split())
        if source is not None:
            return _steps(source, size, count)
        block = bytes(size)
        return (block for _ in range(count))

    def call(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return b""

    if ours:
        keep_memory()
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        _STREAM: grpc.unary_stream_rpc_method_handler(stream),
        _CALL: grpc.unary_unary_rpc_method_handler(call),
    }
    server.add_registered_method_handlers(_SERVICE, methods)
    key, certificate, ca = _files(tls)
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    print(f"localhost:{port}", flush=True)
    server.wait_for_termination()


def _steps(source: Path, size: int, count: int) -> Iterator[bytes]:
    """Read and decrypt into messages, in another thread than the one that sends."""
    buffer = memoryview(bytearray(size))
    file = os.open(source, os.O_RDONLY | os.O_CLOEXEC)

    def make(i: int) -> bytes:
        got = os.preadv(file, [buffer], i * size)
        message, place = blank_piece(i, 0, got)
        decrypt(buffer[:got], place)
        return message

    try:
        with ThreadPoolExecutor(1) as helper:
            ahead = helper.submit(make, 0)
            for i in range(1, count + 1):
                message = ahead.result()
                if i < count:
                    ahead = helper.submit(make, i)
                yield message
    finally:
        os.close(file)


def _files(tls: Path) -> tuple[bytes, bytes, bytes]:
    key, certificate, ca = ((tls / name).read_bytes() for name in ("tls.key", "tls.crt", "ca.pem"))
    return key, certificate, ca


if __name__ == "__main__":
    _, _tls, *_rest = sys.argv
    serve(Path(_tls), ours=_rest[:1] == ["ours"], source=Path(_rest[1]) if _rest[1:] else None)
