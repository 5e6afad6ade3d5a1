"""What this process may use of the machine: processors, memory, a folder for sockets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from posa_vla.errors import BadInput

_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def processors(cgroups: Path = _CGROUPS) -> int:
    """Processors that this process may use: those that it may run on, and no more than a container's quota pays for."""
    quotas = [quota for folder in _own_cgroups(cgroups) if (quota := _quota(folder)) is not None]
    return max(1, int(min([len(os.sched_getaffinity(0)), *quotas])))


def memory(cgroups: Path = _CGROUPS, meminfo: Path = _MEMINFO) -> int:
    """Bytes of memory that this process may still take, by the kernel's own estimate and a container's limit."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = [int(lines["MemAvailable"].split()[0]) * 1024]
    free += [left for folder in _own_cgroups(cgroups) if (left := _memory_left(folder)) is not None]
    return min(free)


def require_memory(needed: int, purpose: str, otherwise: str) -> None:
    """Stops before work that the machine's memory cannot hold.

    Args:
        needed: Bytes.
        purpose: What for.
        otherwise: What can be done instead.

    Raises:
        BadInput: Less is free.
    """
    free = memory()
    if free < needed:
        raise BadInput(
            f"{purpose} needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free: end other programs, give "
            f"the container more, or {otherwise}"
        )


def temporary_folder() -> Path:
    """The folder that TMPDIR names, else the system's.

    Raises:
        BadInput: None can be written to.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise BadInput(f"no folder for temporary files: {error}; set TMPDIR to one that can be written to") from None


def _own_cgroups(root: Path) -> Iterator[Path]:
    """Folders of this process's control groups and of those above them, of version 2 and of version 1."""
    # In a container the kernel shows its own group as the root; outside, /proc says which one it is.
    try:
        named = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        named = []
    tops = [(root / kinds, path) for _, kinds, path in named]
    for top, path in tops or [(root, "/")]:
        folder = top / path.strip("/")
        for place in (folder, *folder.parents):
            if place.is_dir():
                yield place
            if place == top:
                break


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):  # not there, or "max"
        return None


def _quota(folder: Path) -> float | None:
    """Processors that a group's quota pays for; None without one."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        old, length = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        return old / length if old and length and old > 0 else None
    return None if quota == "max" else int(quota) / int(period)


def _memory_left(folder: Path) -> int | None:
    """Bytes that a group may still take, with what the kernel can drop of its file cache; None without a limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        most, taken = _number(folder / limit), _number(folder / used)
        if most is not None and taken is not None:
            try:
                told = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
            except (OSError, ValueError):
                told = {}
            return max(0, most - taken + int(told.get("inactive_file", 0)))
    return None
