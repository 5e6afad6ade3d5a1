"""Rows: processors and memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine_row import RETRAIN, Absent, Place, row


@contextmanager
def control_group(kind: str, limits: dict[str, dict[str, str]]) -> Iterator[Path]:
    """The file that a process writes its number into to be limited as a container would be."""
    v1, v2 = Path("/sys/fs/cgroup") / kind, Path("/sys/fs/cgroup")
    version, top = ("v1", v1) if v1.is_dir() else ("v2", v2)
    folder = top / f"posa-row-{os.getpid()}"
    try:
        folder.mkdir()
        for name, value in limits[version].items():
            (folder / name).write_text(value, encoding="utf-8")
    except OSError as error:
        raise Absent(f"no control group can be made here: {error}") from None
    try:
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


def limited(place: Place, group: Path, *arguments: str) -> list[str]:
    return ["sh", "-ec", f'echo $$ >"{group}"; exec "$@"', "sh", *place.command(*arguments)]


@row("one processor: a training of two workers runs, slower", slow=True)
def one_processor(place: Place) -> None:
    taskset = shutil.which("taskset")
    if taskset is None:
        raise Absent("no taskset")
    place.run(taskset, "-c", "0", *place.command(*RETRAIN), seconds=900).retrained()


@row("a container's quota of one processor", slow=True)
def quota(place: Place) -> None:
    limits = {"v1": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}, "v2": {"cpu.max": "100000 100000"}}
    with control_group("cpu", limits) as group:
        findings = place.run(*limited(place, group, "doctor", "--json")).json()["findings"]
        told = next(finding["detail"] for finding in findings if finding["name"] == "machine")
        assert told.startswith("1 processors"), told
        place.run(*limited(place, group, *RETRAIN), seconds=900).retrained()


@row("1.2 GB of memory: refused before anything starts, and the doctor says it", slow=True)
def little_memory(place: Place) -> None:
    limit = str(1_200_000_000)
    with control_group("memory", {"v1": {"memory.limit_in_bytes": limit}, "v2": {"memory.max": limit}}) as group:
        place.run(*limited(place, group, "retrain", "--preset", "tiny")).refused("GB of memory")
        doctor = place.run(*limited(place, group, "doctor"))
        assert doctor.code == 1, doctor
        assert "GB of memory" in " ".join(doctor.out.split()) + doctor.said, doctor
