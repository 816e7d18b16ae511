"""How long a job waits: from the last custodian's decision to its first byte, and how many sessions open a second."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from custody.client import Custody, PendingRequest
from custody.client.session import Session
from ops.bench.deployment import Deployment
from ops.bench.model import Model
from ops.bench.rows import Contender, Part, Row, Target, measure, returned
from ops.bench.stream import empty_server

__all__ = ["first_byte_rows", "rate_rows"]

_FIRST_BYTE: Final = Target(500, 100, of="value", below=True)
_SESSIONS: Final = 64
_CALLERS: Final = 8


class _Waiting:
    """A job that waits for the last decision, and then reads one byte."""

    def __init__(self, deployment: Deployment, job: Custody, model: Model) -> None:
        self._deployment, self._job, self._model = deployment, job, model
        self._pool = ThreadPoolExecutor(1)
        self._digest = ""
        self._reading: Future[float] | None = None

    def ask(self) -> None:
        """Ask, have one of two custodians approve, and let the job wait."""
        request = self._deployment.request(self._job)
        self._deployment.approve(request.digest, "alice")
        self._digest = request.digest
        self._reading = self._pool.submit(self._read, request)
        time.sleep(0.2)  # until it has asked

    def decide(self) -> float:
        """Let the other approve; return the milliseconds until the job had its byte."""
        if self._reading is None:
            raise AssertionError
        sent = self._deployment.approve(self._digest, "bob")
        return 1000 * (self._reading.result() - sent)

    def close(self) -> None:
        """End the helper thread."""
        self._pool.shutdown()

    def _read(self, request: PendingRequest) -> float:
        with request.wait().open() as session:
            session.read(self._model.name, 0, 1)
            return time.perf_counter()


def first_byte_rows(deployment: Deployment, model: Model, runs: int) -> Sequence[Row]:
    """From the moment at which the last decision is sent: decision, share, rebuilt key, session, witnessed receipt."""
    with deployment.job() as job:
        waiting = _Waiting(deployment, job, model)
        name = "from the last decision to the first"
        ours = Contender(name, waiting.decide, before=waiting.ask, target=_FIRST_BYTE)
        try:
            return measure(Part("verified bytes, streamed", "ms", returned, [ours], again=False), runs)
        finally:
            waiting.close()


def rate_rows(deployment: Deployment, runs: int) -> Sequence[Row]:
    """Open and close, each with its two witnessed entries, beside calls that do nothing."""
    with empty_server(deployment) as (process, calls), deployment.job() as job:
        lease = deployment.lease(job)

        def session() -> None:
            opened: Session = lease.open(bytes=1)
            opened.close()

        ours = Contender(
            f"opened and closed, {_CALLERS} callers",
            lambda: _a_second(session, _SESSIONS),
            processes=[deployment.broker],
        )
        theirs = Contender(
            f"empty grpcio mTLS calls, {_CALLERS} callers",
            lambda: _a_second(calls.call, 8 * _SESSIONS),
            processes=[process],
        )
        return measure(Part("sessions", "/s", returned, [ours, theirs], again=False), runs)


def _a_second(call: Callable[[], None], times: int) -> float:
    """Call so often, by several at once; return how many a second."""
    with ThreadPoolExecutor(_CALLERS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda _: call(), range(times)))
        return times / (time.perf_counter() - start)
