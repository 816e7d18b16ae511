"""Runs the service: one listener, mTLS only, health checking, limits, and an orderly end."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import grpc
from grpc.aio import Server
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from custody.broker.closing import wipe_all
from custody.broker.context import Context
from custody.broker.refusals import Refusals
from custody.errors import ConfigError
from custody.server.changes import Changes
from custody.server.guard import Guard, MethodNames
from custody.server.often import MAX_FILED, MAX_HELLOS, Often
from custody.server.pools import Pools
from custody.server.reads import Reads, add_reads
from custody.server.receipts import Receipts
from custody.server.service import Service
from custody.wire.memory import keep_memory
from custody.wire.tls import TlsFiles, server_credentials
from custody.wire.v1.broker_pb2_grpc import add_BrokerServicer_to_server

__all__ = ["Listen", "run"]

_SERVICE: Final = "custody.v1.Broker"
_MAX_MESSAGE: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and how to listen. Ages are seconds: a connection is asked to end at ``max_age`` and does after ``grace``,
    so that a revoked certificate is not used for ever; streams resume on a new one. What one identity may do a
    minute: ``hellos``; ``filed``, requests, releases and versions.
    """

    address: str
    tls: TlsFiles
    trust_domain: str
    max_age: int = 3600
    grace: int = 600
    calls: int = 32
    reads: int = 2
    hellos: int = MAX_HELLOS
    filed: int = MAX_FILED


class _ByName:
    """A server that looks methods up by their names, as gRPC did before it had registered ones. It waits for a call of
    each of those separately, and anew for all of them with every call: a tenth of what a short call costs.
    """

    def __init__(self, server: Server) -> None:
        self.add_generic_rpc_handlers: Final = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, object], /) -> None:
        """Leave it at the names."""


async def run(listen: Listen, context: Context, refusals: Refusals, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is told the bound address once calls are answered.

    Raises ``ConfigError`` when the address cannot be bound.
    """
    keep_memory()
    loop = asyncio.get_running_loop()
    pools = Pools(calls=listen.calls, reads=listen.reads)
    changes = Changes(loop)
    context.ledger.on_change(changes.notify)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.max_metadata_size", 16 << 10),
            ("grpc.max_concurrent_streams", 1024),
            ("grpc.max_connection_age_ms", listen.max_age * 1000),
            ("grpc.max_connection_age_grace_ms", listen.grace * 1000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
            ("grpc.http2.max_frame_size", 16_777_215),
            ("grpc.so_reuseport", 0),
        ],
    )
    guard = Guard(listen.trust_domain, refusals)
    receipts = Receipts(context.ledger.publisher, pools, context.receipt_timeout, loop)
    reads = Reads(context, guard, pools)
    service = Service(context, guard, pools, changes, receipts, Often(loop.time, listen.hellos, listen.filed), reads)
    server.add_generic_rpc_handlers((MethodNames(),))
    add_reads(reads, server)
    by_name = cast("Server", _ByName(server))
    add_BrokerServicer_to_server(service, by_name)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, by_name)
    try:
        port = server.add_secure_port(listen.address, server_credentials(listen.tls))
    except RuntimeError:
        raise ConfigError(f"cannot listen on {listen.address}", hint="is the address in use?") from None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    for name in ("", _SERVICE):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    ready(f"{listen.address.rpartition(':')[0]}:{port}")
    await stop.wait()
    await health.enter_graceful_shutdown()
    # Keys first: nobody waits for a stream to end before the process forgets what it holds.
    await pools.stop("", partial(wipe_all, context))
    await server.stop(grace=2)
    wipe_all(context)  # what was being opened meanwhile, too: the pools are waited for
    pools.close()
    reads.close()
