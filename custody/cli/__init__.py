"""The command line: one file per group of commands, found through ``registry``."""

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from custody.cli.errors import run
from custody.cli.registry import main_group

__all__ = ["main"]

_MORE = 20_000
"""New objects until the collector looks for cycles. A start makes a few hundred thousand that stay; by default it would
look some hundred times.
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave the process with its exit code. Without ``arguments`` the process has no other task."""
    if arguments is None:
        gc.set_threshold(_MORE)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would write lines of its own among ours
    words = sys.argv[1:] if arguments is None else list(arguments)
    code = run(lambda: main_group.main(args=words, prog_name="custody", standalone_mode=False))
    if arguments is None:
        gc.freeze()  # the end of the process frees what is left; looking for cycles in it first takes a command's time
    sys.exit(code)
