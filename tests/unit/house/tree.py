"""The files of the project, for the tests of the house: what git tracks or would track, or a walk without git."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "files", "modules", "texts"]

ROOT = Path(__file__).resolve().parents[3]

_OURS = {".ci", ".gitignore", ".gitattributes", ".editorconfig"}


@cache
def files() -> tuple[Path, ...]:
    """All files, relative to ROOT, sorted. What .gitignore names is nobody's business."""
    return tuple(sorted(path for path in _listed() if (ROOT / path).is_file()))


def texts() -> Iterator[tuple[Path, str]]:
    """Each file and its text; bytes that are no UTF-8 are replaced, so that nothing hides behind them."""
    for path in files():
        yield path, (ROOT / path).read_text(encoding="utf-8", errors="replace")


def modules() -> Iterator[Path]:
    """The modules of the package that people wrote."""
    for path in files():
        if path.parts[0] == "custody" and path.suffix == ".py" and not path.stem.endswith(("_pb2", "_pb2_grpc")):
            yield path


def _listed() -> set[Path]:
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode == 0:  # git refuses a tree that another user owns
            return {Path(name) for name in done.stdout.decode().split("\0") if name}
    return {path.relative_to(ROOT) for path in ROOT.rglob("*") if _wanted(path.relative_to(ROOT).parts)}


def _wanted(parts: tuple[str, ...]) -> bool:
    return all(
        not part.endswith(".egg-info")
        and part not in {"__pycache__", "build", "dist"}
        and (part in _OURS or not part.startswith("."))
        for part in parts
    )
