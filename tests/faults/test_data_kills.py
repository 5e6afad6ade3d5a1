"""kill -9, and a disk that fills up, anywhere in an ingestion: the same command again ends as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot_datasets import make_v21

pytestmark = [pytest.mark.fault, pytest.mark.slow]

DEADLINE = 60.0


def command(dataset: Path, workspace: Path) -> list[str]:
    posa = [sys.executable, "-m", "posa_vla.cli.main", "data", "ingest", str(dataset), "--workspace", str(workspace)]
    return [*posa, "--set", "prepare.validation_fraction=0", "--json"]


def finished(dataset: Path, workspace: Path) -> dict[str, object]:
    done = subprocess.run(command(dataset, workspace), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def verified(workspace: Path) -> bool:
    posa = [sys.executable, "-m", "posa_vla.cli.main", "data", "verify", "--workspace", str(workspace), "--json"]
    return bool(json.loads(subprocess.run(posa, capture_output=True, text=True).stdout)["ok"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_v21(tmp_path_factory.mktemp("kills") / "dataset")


@pytest.fixture(scope="module")
def expected(dataset, tmp_path_factory) -> dict[str, object]:
    return finished(dataset, tmp_path_factory.mktemp("whole") / "workspace")


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "a batch is being written": lambda home: bool(list(home.glob("episodes/drafts/*/.batch*"))),
    "the stages run": lambda home: bool(list(home.glob("clones/*/repository/data/report.json"))),
    "objects are being pushed": lambda home: bool(list(home.glob("dvc-remote/files/md5/*/*"))),
}


def moments() -> list[Any]:
    """The first is in every run of the tests, the others take long."""
    first, *others = MOMENTS
    return [first, *(pytest.param(moment, marks=pytest.mark.long) for moment in others)]


@pytest.mark.parametrize("moment", moments())
def test_killed_at_any_moment_the_same_command_ends_the_same(dataset, expected, tmp_path, moment):
    workspace = tmp_path / "workspace"
    victim = subprocess.Popen(command(dataset, workspace), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + DEADLINE
    while not MOMENTS[moment](workspace / ".posa"):
        assert victim.poll() is None, "the victim ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    again = finished(dataset, workspace)
    assert {k: again[k] for k in ("accepted", "quarantined", "data_version", "name", "batches")} == {
        k: expected[k] for k in ("accepted", "quarantined", "data_version", "name", "batches")
    }
    assert verified(workspace)
    home = workspace / ".posa"
    assert not list(home.glob("clones/*"))
    assert not list(home.glob("episodes/drafts/*"))


@pytest.mark.long
def test_two_ingestions_at_once_neither_corrupt_nor_wait_for_ever(dataset, tmp_path):
    other = make_v21(tmp_path / "other", seed=700)
    workspace = tmp_path / "workspace"
    finished(make_v21(tmp_path / "first", seed=900), workspace)
    processes = [subprocess.Popen(command(d, workspace), stdout=subprocess.PIPE, text=True) for d in (dataset, other)]
    results = [json.loads(process.communicate(timeout=DEADLINE)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert {result["name"] for result in results} == {"data-v2", "data-v3"}
    assert [result["accepted"] for result in results] == [3, 3]
    assert verified(workspace)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mount"), reason="only root can make a small file system")
def test_a_disk_that_fills_up_is_said_and_the_command_goes_on_when_there_is_room(dataset, expected, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        workspace, ballast = disk / "workspace", disk / "ballast"
        victim = subprocess.Popen(
            command(dataset, workspace), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + DEADLINE
        while not list((workspace / ".posa").glob("episodes/drafts/*")):
            assert victim.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        try:
            with ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
        except OSError:
            pass  # full: that is what it is for
        _, err = victim.communicate(timeout=DEADLINE)
        assert victim.returncode in {1, 2}, err
        assert "Traceback" not in err
        assert "No space left" in err or "the disk is full" in err or "are free" in err
        ballast.unlink()
        again = finished(dataset, workspace)
        assert again["data_version"] == expected["data_version"]
        assert verified(workspace)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
