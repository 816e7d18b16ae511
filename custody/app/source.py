"""What is to be sealed: a file, or a directory with all that is in it.

Only regular files and directories are taken. A symbolic link is refused and not followed: what it points to may lie
outside, and may be another thing tomorrow. Every path is walked from one open directory, part by part, so that nothing
swapped in while sealing leads elsewhere.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, cast

from custody.adapters.small_files import explained
from custody.errors import FormatError
from custody.segments.sealing_queue import FileToSeal
from custody.segments.streams import Source
from custody.values import check_path

__all__ = ["MAX_FILES", "scan"]

MAX_FILES: Final = 50_000
"""Files that one version holds at most."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def scan(path: Path) -> list[FileToSeal]:
    """List the files of a version, sorted by path; hidden ones included. A file alone is known by its name.

    Raises ``NotFoundError``, ``ConfigError`` where it may not be read, and ``FormatError`` for links and special
    files, for names that no version can hold, and for a directory without files.
    """
    with explained(path):
        mode = path.lstat().st_mode
    _require_plain(mode, path)
    if stat.S_ISREG(mode):
        name = check_path(path.name)
        return [FileToSeal(name, _opener(path.parent, (name,)), path.lstat().st_size)]
    with explained(path):
        directory = os.open(path, _DIRECTORY)
    try:
        files = [
            FileToSeal(check_path("/".join(parts)), _opener(path, parts), size)
            for parts, size in _walk(directory, path, ())
        ]
    finally:
        os.close(directory)
    if not files:
        raise FormatError(f"{path}: there is no file in it to seal")
    if len(files) > MAX_FILES:
        raise FormatError(f"{path}: {len(files)} files; a version holds at most {MAX_FILES}")
    return sorted(files, key=lambda file: file.path)


def _walk(directory: int, shown: Path, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    with explained(shown):
        names = sorted(os.listdir(directory))
    for name in names:
        where = shown / name
        with explained(where):
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        _require_plain(info.st_mode, where)
        if stat.S_ISREG(info.st_mode):
            yield (*above, name), info.st_size
            continue
        with explained(where):
            below = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            yield from _walk(below, where, (*above, name))
        finally:
            os.close(below)


def _require_plain(mode: int, shown: Path) -> None:
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise FormatError(
                f"{shown}: {name}; a version holds regular files only", hint="copy what it points to, or remove it"
            )


def _opener(base: Path, parts: tuple[str, ...]) -> Callable[[], AbstractContextManager[Source]]:
    return lambda: _open(base, parts)


@contextmanager
def _open(base: Path, parts: tuple[str, ...]) -> Iterator[Source]:
    """Open a file below ``base`` without following a link on the way."""
    shown = base.joinpath(*parts)
    with explained(shown):
        directory = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                below = os.open(part, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = below
            descriptor = os.open(parts[-1], _FILE, dir_fd=directory)
        finally:
            os.close(directory)
    # Unbuffered: the pipeline reads whole segments into its own buffers.
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        _require_plain(os.fstat(descriptor).st_mode, shown)
        yield cast("Source", file)
