"""A layer between SQLite and its files that fails when told to, and remembers what was synced.

SQLite asks a table of C functions (its VFS) for every write and sync. This puts a copy of the default table in front,
with ``xWrite``, ``xTruncate``, ``xSync`` and ``xDelete`` of our own, in the very library that Python's ``sqlite3`` has
loaded: so the ledger that is tested is the real one, down to the system calls.
"""

import _sqlite3
import ctypes
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.doubles.faults import Kind, Tap, some_of

__all__ = ["SqliteLayer"]

_OK: Final = 0
_FULL: Final = 13
_IOERR: Final = 10
_IOERR_WRITE: Final = _IOERR | 3 << 8
_IOERR_FSYNC: Final = _IOERR | 4 << 8
_IOERR_TRUNCATE: Final = _IOERR | 6 << 8
_IOERR_DELETE: Final = _IOERR | 10 << 8
_SECTOR: Final = 512  # bytes that a disk writes whole

_Pointer = ctypes.c_void_p
# Names stay raw pointers: SQLite keeps them, and reads what follows them.
_Open = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer, ctypes.c_int, _Pointer)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, ctypes.c_int)
_Write = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs`` (sqlite3.h), as far as it is replaced here."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", _Pointer),
        ("name", ctypes.c_char_p),
        ("data", _Pointer),
        ("open", _Pointer),
        ("delete", _Pointer),
        ("rest", _Pointer * 14),
    )


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close", _Pointer),
        ("read", _Pointer),
        ("write", _Pointer),
        ("truncate", _Pointer),
        ("sync", _Pointer),
        ("rest", _Pointer * 13),
    )


class _File:
    """The bytes that survive, and what was done since the last sync."""

    def __init__(self, durable: bytes) -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []  # None: cut off there
        self.doubtful: list[tuple[int, bytes | None]] = []  # a sync of them failed, and another proves nothing

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, *change)
        self.pending = []

    def doubt(self) -> None:
        self.doubtful += self.pending
        self.pending = []

    def after_power_cut(self, rng: Random) -> bytes:
        data = bytearray(self.durable)
        for offset, written in some_of([*self.doubtful, *self.pending], rng):
            torn = written is not None and len(written) > _SECTOR and rng.random() < 0.25
            kept = written[: rng.randrange(0, len(written), _SECTOR)] if torn and written is not None else written
            _apply(data, offset, kept)
        return bytes(data)


def _apply(data: bytearray, offset: int, written: bytes | None) -> None:
    if written is None:
        del data[offset:]
        return
    if len(data) < offset:
        data += bytes(offset - len(data))
    data[offset : offset + len(written)] = written


class SqliteLayer:
    """Installs itself as the default of this process, for good: use it in a process that ends with the test."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._files: dict[str, _File] = {}
        self._handles: dict[int, _File] = {}
        self._tables: dict[int, tuple[_Methods, dict[str, Any]]] = {}
        library: Any = ctypes.CDLL(_sqlite3.__file__)
        find = library.sqlite3_vfs_find
        find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
        self._default = find(None)
        vfs = _Vfs.from_buffer_copy(self._default.contents)
        self._real_open = _Open(vfs.open)
        self._real_delete = _Delete(vfs.delete)
        self._kept: list[Any] = [_Open(self._open), _Delete(self._delete), vfs]
        vfs.name = b"custody-faults"
        vfs.open = ctypes.cast(self._kept[0], _Pointer)
        vfs.delete = ctypes.cast(self._kept[1], _Pointer)
        if library.sqlite3_vfs_register(ctypes.byref(vfs), 1) != _OK:
            raise OSError("SQLite does not take the layer")

    def remember(self, path: Path) -> None:
        """Take what a file holds now as durable."""
        self._files[str(path)] = _File(path.read_bytes())

    def cut_power(self, rng: Random) -> None:
        """Leave on the disk what a power cut does. Nothing may write any more."""
        for path, file in self._files.items():
            Path(path).write_bytes(file.after_power_cut(rng))

    def _open(self, _vfs: int, name: int | None, handle: int, flags: int, out: int) -> int:
        code: int = self._real_open(ctypes.addressof(self._default.contents), name, handle, flags, out)
        first = ctypes.cast(handle, ctypes.POINTER(_Pointer))
        if code == _OK and name and first[0]:
            self._handles[handle] = self._files.setdefault(ctypes.string_at(name).decode(), _File(b""))
            first[0] = ctypes.addressof(self._table(first[0]))
        return code

    def _table(self, address: int) -> _Methods:
        """Return our version of a table of methods: the same but for three."""
        if address not in self._tables:
            table = _Methods.from_buffer_copy((ctypes.c_char * ctypes.sizeof(_Methods)).from_address(address))
            real: dict[str, Any] = {
                "write": _Write(table.write), "truncate": _Truncate(table.truncate), "sync": _Sync(table.sync)
            }  # fmt: skip

            def write(handle: int, data: int, size: int, offset: int) -> int:
                change = (offset, ctypes.string_at(data, size))
                return self._do("write", handle, change, lambda: real["write"](handle, data, size, offset))

            def truncate(handle: int, size: int) -> int:
                return self._do("truncate", handle, (size, None), lambda: real["truncate"](handle, size))

            def sync(handle: int, flags: int) -> int:
                return self._do("sync", handle, None, lambda: real["sync"](handle, flags))

            ours = {"write": _Write(write), "truncate": _Truncate(truncate), "sync": _Sync(sync)}
            for name, function in ours.items():
                setattr(table, name, ctypes.cast(function, _Pointer))
            self._tables[address] = (table, {**real, "ours": ours})
        return self._tables[address][0]

    def _do(self, name: str, handle: int, change: tuple[int, bytes | None] | None, act: Callable[[], int]) -> int:
        """Do one operation or fail it. A failed sync leaves everything pending, even where it was done."""
        kind = self._tap.ask(name, needs_room=name == "write")
        code = _OK if kind not in (None, Kind.PERSISTED) else act()
        file = self._handles[handle]
        if code == _OK and kind in (None, Kind.PERSISTED):
            if change is not None:
                file.pending.append(change)
            elif kind is None:
                file.sync()
        if name == "sync" and kind is not None:
            file.doubt()
        if kind is None:
            return code
        if kind is Kind.ENOSPC and name == "write":
            return _FULL
        return {"write": _IOERR_WRITE, "truncate": _IOERR_TRUNCATE, "sync": _IOERR_FSYNC}[name]

    def _delete(self, vfs: int, name: int, sync_directory: int) -> int:
        kind = self._tap.ask("delete", needs_room=False)
        if kind in (None, Kind.PERSISTED):
            code: int = self._real_delete(ctypes.addressof(self._default.contents), name, sync_directory)
            if code == _OK:  # whether the deletion is durable does not matter: what it held was synced elsewhere
                self._files.pop(ctypes.string_at(name).decode(), None)
        else:
            code = _OK
        return code if kind is None else _IOERR_DELETE
