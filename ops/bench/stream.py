"""Streaming over mTLS from a broker in another process, every byte verified by the job, beside an empty stream.

The empty one keeps nothing of what comes. So it is compared with a stream into memory that is there; what memory costs
that nobody has touched yet, which a virtual machine may have to get from its host, the second line says.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from custody.segments.buffers import huge_buffer
from custody.server.reads import PIECE
from ops.bench.deployment import Deployment
from ops.bench.empty import EmptyCalls
from ops.bench.model import Model
from ops.bench.opening import Loader
from ops.bench.rows import Contender, Part, Row, Target, measure, rate

__all__ = ["empty_server", "rows"]

_EMPTY: Final = Target(0.7, 0.9)


def rows(deployment: Deployment, model: Model, runs: int) -> Sequence[Row]:
    """Stream all of it into memory that is there, and into fresh memory."""
    memory = huge_buffer(model.size)
    with (
        empty_server(deployment) as plain,
        empty_server(deployment, ours=True) as set_up,
        empty_server(deployment, ours=True, source=model.path) as steps,
        deployment.job() as job,
    ):
        loader, broker = Loader(deployment, job, model, "stream"), [deployment.broker]
        contenders = [
            loader.reader("custody, streamed", memory, processes=broker),
            loader.contender("custody, into fresh memory", processes=broker),
            _empty(f"empty grpcio mTLS stream, {PIECE >> 20} MiB each", model, *plain, target=_EMPTY),
            _empty("the same with custody's settings", model, *set_up),
            Contender(
                "only read, decrypt, stream, hash",
                partial(steps[1].steps, PIECE, memory),
                size=model.size,
                processes=[steps[0]],
            ),
        ]
        return measure(Part("stream", "GB/s", rate, contenders, ours=2), runs)


def _empty(name: str, model: Model, process: int, calls: EmptyCalls, target: Target | None = None) -> Contender:
    run = partial(calls.stream, PIECE, model.size)
    return Contender(name, run, size=model.size, processes=[process], target=target)


@contextmanager
def empty_server(
    deployment: Deployment, *, ours: bool = False, source: Path | None = None
) -> Iterator[tuple[int, EmptyCalls]]:
    """Have such a server and a client of it, with the certificates of the deployment, for the length of a block."""
    how = [*(["ours"] if ours else []), *([str(source)] if source else [])]
    command = [sys.executable, "-m", "ops.bench.empty", str(deployment.tls), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own program
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            with EmptyCalls(address, deployment.job_home / "tls", ours=ours) as calls:
                calls.call()
                yield server.pid, calls
        finally:
            server.kill()
