"""The cores that verify signatures ahead of a fold: processes beside the one that judges.

One that cannot be started, or dies, costs time and nothing else: what they do not prove is verified where it is judged.
A small journal is folded without them: starting processes would take longer.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from typing import Final

from custody.broker.folding import nobody
from custody.rules.ahead import Claims, Proof, prove

__all__ = ["proving"]

_ALONE: Final = 8
"""Pages that the caller judges by itself."""

_AHEAD: Final = 4
"""Pages that are read before they are judged, for each process."""


def proving(claims: Iterator[Claims], processes: int | None = None) -> Iterator[Sequence[Proof]]:
    """Verify claims in processes, by default one for each core but the caller's. See ``Prover``."""
    workers = len(os.sched_getaffinity(0)) - 1 if processes is None else processes
    yield from nobody(claims if workers < 1 else islice(claims, _ALONE))
    first = next(claims, None)
    if first is not None:
        yield from _together(workers, first, claims)


def _together(workers: int, first: Claims, claims: Iterator[Claims]) -> Iterator[Sequence[Proof]]:
    # Spawned, not forked: the caller has threads, and keys.
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        given: deque[Future[Sequence[Proof]] | None] = deque()
        for work in chain([first], claims):
            # Who has enough to do gets no more: what is left over the caller verifies, and nobody waits for anybody.
            busy = sum(1 for proofs in given if proofs is not None and not proofs.done()) > workers
            given.append(None if busy else _submit(pool, work))
            if len(given) > _AHEAD * workers:
                yield _of(given.popleft())
        for proofs in given:
            yield _of(proofs)
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Claims) -> "Future[Sequence[Proof]] | None":
    try:
        return pool.submit(prove, work)
    except (BrokenProcessPool, OSError):  # no room for a process, or for what they share
        return None


def _of(proofs: "Future[Sequence[Proof]] | None") -> Sequence[Proof]:
    try:
        return proofs.result() if proofs else ()
    except (BrokenProcessPool, OSError):  # the kernel wanted the memory
        return ()
