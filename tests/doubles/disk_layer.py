"""A layer between our code and the file system: fails when told to, and remembers what a power cut would leave.

Stands where a module has imported ``os``. A file's bytes survive once that file was synced, a name once its directory
was; of everything else any part may or may not have reached the disk, in any order, as POSIX allows.
"""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.doubles.faults import Kind, Tap, failure, some_of
from tests.doubles.store import makes_a_file

__all__ = ["DiskLayer", "LayeredOs"]

_DURABLE: Final = frozenset({"open", "mkdir", "write", "fsync", "link", "rename", "unlink"})


class _File:
    """The bytes that survive, and those written since the last sync; ``cut`` says that it was emptied before them.

    After a sync that failed (``doubt``) the kernel may have dropped the pages and call the next one a success: nothing
    written before it is sure to survive any more.
    """

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[bytes] = []
        self.cut = False
        self.doubtful = False

    def sync(self) -> None:
        if not self.doubtful:
            self.durable = (b"" if self.cut else self.durable) + b"".join(self.pending)
            self.pending, self.cut = [], False

    def doubt(self) -> None:
        self.doubtful = True

    def after_power_cut(self, rng: Random) -> bytes:
        cut = self.cut and (bool(self.pending) or rng.random() < 0.5)
        written = b"".join(self.pending)
        if rng.random() < 0.3:  # the length reached the disk and the bytes did not
            written = bytes(len(written))
        return (b"" if cut else self.durable) + written[: rng.choice([0, len(written), rng.randint(0, len(written))])]


class _Folder:
    """The names that survive, and what was done to names since the last sync: (name that goes, name that comes)."""

    def __init__(self) -> None:
        self.durable: dict[str, _File | _Folder] = {}
        self.pending: list[_Change] = []
        self.doubtful: list[_Change] = []

    def sync(self) -> None:
        for change in self.pending:
            _rename(self.durable, *change)
        self.pending = []

    def doubt(self) -> None:
        self.doubtful += self.pending
        self.pending = []

    def now(self, name: str) -> "_File | _Folder":
        names = dict(self.durable)
        for change in [*self.doubtful, *self.pending]:
            _rename(names, *change)
        return names[name]

    def restore(self, path: Path, rng: Random) -> None:
        path.mkdir(0o700)
        names = dict(self.durable)
        for change in some_of([*self.doubtful, *self.pending], rng):
            _rename(names, *change)
        for name, node in names.items():
            if isinstance(node, _Folder):
                node.restore(path / name, rng)
            else:
                (path / name).write_bytes(node.after_power_cut(rng))
                (path / name).chmod(0o600)


_Change = tuple[str, str, _File | _Folder]


def _rename(names: dict[str, _File | _Folder], old: str, new: str, node: _File | _Folder) -> None:
    names.pop(old, None)
    if new:
        names[new] = node


class DiskLayer:
    """One directory tree. What it holds at first is durable."""

    def __init__(self, root: Path, tap: Tap) -> None:
        self.tap = tap
        self._root = root
        self._nodes: dict[int, _File | _Folder] = {}
        self._tree = self._learn(root)

    def _learn(self, path: Path) -> _Folder:
        folder = _Folder()
        for entry in os.scandir(path):
            here = Path(entry)
            folder.durable[entry.name] = node = self._learn(here) if entry.is_dir() else _File(here.read_bytes())
            self._nodes[entry.inode()] = node
        self._nodes[path.stat().st_ino] = folder
        return folder

    def cut_power(self, target: Path, rng: Random) -> None:
        """Make at ``target`` what the disk holds after a power cut."""
        self._tree.restore(target, rng)

    def do(self, name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Do or fail one call."""
        kind = self.tap.ask(name, needs_room=name != "unlink")
        if kind not in (None, Kind.PERSISTED):
            if kind is Kind.ENOSPC and name == "write" and len(args[1]) > 1:
                done = os.write(args[0], args[1][: len(args[1]) // 2])
                self._remember("write", done, *args, **options)
                return done
            if name == "fsync":
                self._nodes[os.fstat(args[0]).st_ino].doubt()
            raise failure(kind)
        node = self._named(args[0], options, args) if name in ("link", "rename") else None
        result = call(*args, **options)
        if kind is Kind.PERSISTED and name == "fsync":  # the system says that it failed: nothing may rely on it
            self._nodes[os.fstat(args[0]).st_ino].doubt()
        else:
            self._remember(name, result, *args, node=node, **options)
        if kind is Kind.PERSISTED:
            if name == "open":
                os.close(result)
            raise failure(kind)
        return result

    def _named(self, path: str, options: dict[str, Any], args: Any) -> _File | _Folder:
        """Find what gets a name: by the name it has, or where it has none by its descriptor."""
        if str(path).startswith("/proc/self/fd/"):
            return self._nodes[Path(path).stat().st_ino]
        return self._folder(options, "src_dir_fd", args).now(Path(path).name)

    def _folder(self, options: dict[str, Any], key: str, args: Any) -> _Folder:
        """Find the directory of a name: by descriptor, or by path."""
        place = options.get(key, options.get("dir_fd"))
        inode = (Path(args[0]).parent.stat() if place is None else os.fstat(place)).st_ino
        folder = self._nodes[inode]
        assert isinstance(folder, _Folder)
        return folder

    def _remember(
        self, name: str, result: Any, *args: Any, node: _File | _Folder | None = None, **options: Any
    ) -> None:
        if name == "write":
            file = self._nodes[os.fstat(args[0]).st_ino]
            assert isinstance(file, _File)
            file.pending.append(bytes(args[1][:result]))
        elif name == "fsync":
            self._nodes[os.fstat(args[0]).st_ino].sync()
        elif name == "open":
            self._opened(result, *args, **options)
        elif name == "mkdir":
            folder = self._folder(options, "dir_fd", args)
            made = os.stat(args[0], dir_fd=options.get("dir_fd"))
            self._nodes[made.st_ino] = _Folder()
            folder.pending.append(("", Path(args[0]).name, self._nodes[made.st_ino]))
        elif name == "unlink":
            base = Path(args[0]).name
            folder = self._folder(options, "dir_fd", args)
            folder.pending.append((base, "", _File()))
        elif node is not None:
            gone = Path(args[0]).name if name == "rename" else ""
            target = self._folder(options, "dst_dir_fd", (args[1],))
            target.pending.append((gone, Path(args[1]).name, node))

    def _opened(self, descriptor: int, path: str, flags: int, *_: Any, **options: Any) -> None:
        inode = os.fstat(descriptor).st_ino
        if not flags & os.O_CREAT:  # a file without a name
            self._nodes[inode] = _File()
            return
        folder = self._folder(options, "dir_fd", (path,))
        known = self._nodes.get(inode)
        try:
            same = folder.now(Path(path).name) is known
        except KeyError:
            same = False
        if known is None or not same:  # an inode number may have been used before
            self._nodes[inode] = known = _File()
            folder.pending.append(("", Path(path).name, known))
        if flags & os.O_TRUNC and isinstance(known, _File):
            known.pending, known.cut = [], True


class LayeredOs:
    """Looks like the module ``os``. ``layer`` says which tree the caller works on, or ``None`` for none."""

    def __init__(self, layer: Callable[[], DiskLayer | None]) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in _DURABLE:
            return call

        def step(*args: Any, **options: Any) -> Any:
            layer = self._layer()
            if layer is None or (name == "open" and not makes_a_file(args[1])):
                return call(*args, **options)
            return layer.do(name, call, *args, **options)

        return step
