"""What a process may use of its machine, as the kernel's files say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.machine import memory, processors, require_memory

GIGABYTE = 10**9


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A control group of version 2, as a container sees its own."""
    return tmp_path


def test_a_quota_of_one_processor_is_one(group: Path) -> None:
    assert processors(group) == len(os.sched_getaffinity(0))
    for told, expected in (("100000 100000", 1), ("50000 100000", 1), ("max 100000", len(os.sched_getaffinity(0)))):
        (group / "cpu.max").write_text(told + "\n")
        assert processors(group) == expected


def test_a_quota_of_version_1_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text
    named = "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n"
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: named if str(self) == "/proc/self/cgroup" else read(self, *a, **k)
    )
    cpu, held = tmp_path / "cpu,cpuacct", tmp_path / "memory" / "docker" / "1"
    cpu.mkdir()
    held.mkdir(parents=True)
    (cpu / "cpu.cfs_quota_us").write_text("100000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    assert processors(tmp_path) == 1
    (held / "memory.limit_in_bytes").write_text("1200000000\n")
    (held / "memory.usage_in_bytes").write_text("500000000\n")
    assert memory(tmp_path) == 700_000_000
    (cpu / "cpu.cfs_quota_us").write_text("-1\n")
    assert processors(tmp_path) == len(os.sched_getaffinity(0))


def test_memory_is_what_the_kernel_would_give(group: Path, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16000000 kB\nMemFree:  1000 kB\nMemAvailable:  8000000 kB\n")
    assert memory(group, meminfo) == 8_000_000 * 1024
    (group / "memory.max").write_text("1200000000\n")
    (group / "memory.current").write_text("1000000000\n")
    (group / "memory.stat").write_text("anon 100\ninactive_file 600000000\n")
    assert memory(group, meminfo) == 800_000_000, "the kernel drops its file cache first"
    (group / "memory.max").write_text("max\n")
    assert memory(group, meminfo) == 8_000_000 * 1024


def test_too_little_memory_names_both_numbers_and_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posa_vla.machine.memory", lambda: GIGABYTE)
    require_memory(GIGABYTE, "this", "go elsewhere")
    with pytest.raises(BadInput, match=r"this needs 2.0 GB of memory, 1.0 GB are free.*or go elsewhere"):
        require_memory(2 * GIGABYTE, "this", "go elsewhere")
