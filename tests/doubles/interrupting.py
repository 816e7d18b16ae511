"""A user who presses Ctrl-C while the main thread waits."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["interrupting"]

_PAUSE = 0.05


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def interrupting(
    times: int, then: Callable[[], object], first: Callable[[], object] = lambda: None
) -> Iterator[Callable[[], None]]:
    """Yield what begins it: ``first``, so many interrupts, a moment apart, then ``then``.

    By another signal than Ctrl-C's, which those who run tests in parallel ignore.
    """

    def user() -> None:
        first()
        for _ in range(times):
            time.sleep(_PAUSE)
            signal.pthread_kill(main, signal.SIGUSR1)
        time.sleep(_PAUSE)
        then()

    main = threading.get_ident()
    thread = threading.Thread(target=user)
    before = signal.signal(signal.SIGUSR1, _interrupt)
    try:
        yield thread.start
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
