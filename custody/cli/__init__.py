"""The command line: one file per group of commands, found through ``registry``."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from custody.cli.errors import run
from custody.cli.registry import main_group

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave the process with its exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would write lines of its own among ours
    words = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(run(lambda: main_group.main(args=words, prog_name="custody", standalone_mode=False)))
