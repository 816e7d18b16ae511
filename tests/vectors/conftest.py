"""Published test vectors lie beside the checkout; they are not copied into the project."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["vectors"]


@pytest.fixture(scope="session")
def vectors(repository: Path) -> Callable[[str], Path]:
    """Find a folder of vectors by name; skip where there is none."""
    shared = Path(os.environ.get("CUSTODY_VECTORS", repository.parent / "shared" / "vectors"))

    def find(name: str) -> Path:
        folder = shared / name
        if not folder.is_dir():
            pytest.skip(f"no published vectors: neither ../shared/vectors/{name} nor CUSTODY_VECTORS")
        return folder

    return find
