"""Streaming over mTLS from a broker in another process, every byte verified by the job, beside an empty stream."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from custody.server.reads import PIECE
from ops.bench.deployment import Deployment
from ops.bench.empty import EmptyCalls
from ops.bench.model import Model
from ops.bench.opening import Loader
from ops.bench.rows import Contender, Part, Row, Target, measure, rate

__all__ = ["empty_server", "rows"]

_EMPTY: Final = Target(0.7, 0.9)


def rows(deployment: Deployment, model: Model, runs: int) -> Sequence[Row]:
    """Stream all of it into fresh memory."""
    with empty_server(deployment) as (process, calls), deployment.job() as job:
        ours = Loader(deployment, job, model, "stream").contender("custody, streamed", processes=[deployment.broker])
        theirs = Contender(
            f"empty grpcio mTLS stream, {PIECE >> 20} MiB each",
            lambda: calls.stream(PIECE, model.size),
            size=model.size,
            processes=[process],
            target=_EMPTY,
        )
        return measure(Part("stream", "GB/s", rate, [ours, theirs]), runs)


@contextmanager
def empty_server(deployment: Deployment) -> Iterator[tuple[int, EmptyCalls]]:
    """Have such a server and a client of it, with the certificates of the deployment, for the length of a block."""
    command = [sys.executable, "-m", "ops.bench.empty", str(deployment.tls)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own program
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            with EmptyCalls(address, deployment.job_home / "tls") as calls:
                calls.call()
                yield server.pid, calls
        finally:
            server.kill()
