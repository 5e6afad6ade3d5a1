"""What `posa gc` takes of the data, and that it never takes what a version names."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from data_workspaces import copy_of, two_versions

from flows.retention import clean_up
from posa_vla.dataset.verify import verify
from posa_vla.dataset.versions import checkout, list_versions
from posa_vla.errors import PosaError
from posa_vla.files import write_bytes
from posa_vla.params import RetentionParams
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Workspace:
    return two_versions(tmp_path_factory.mktemp("retention"))


@pytest.fixture
def workspace(original, tmp_path, monkeypatch) -> Workspace:
    """Two versions, and what killed runs leave; all of it is old."""
    made = copy_of(original, tmp_path)
    for place in (made.dvc_cache, Path(made.dvc_remote)):
        write_bytes(place / "files/md5/ab/cdef", b"of a run that was killed")
    write_bytes(made.home / "incoming/0123/set/meta/info.json", b"{}")
    later = time.time() + 100 * 86_400
    monkeypatch.setattr("flows.retention_data.time.time", lambda: later)
    return made


def test_what_no_version_names_goes_and_every_version_stays(workspace):
    old, new = (version.record.version for version in list_versions(workspace))
    shown = clean_up(workspace, RetentionParams(), dry_run=True)
    assert {(item.store, item.name) for item in shown if not item.kept} == {
        ("prepared", old),
        ("dvc-cache", "files/md5/ab/cdef"),
        ("dvc-remote", "files/md5/ab/cdef"),
        ("incoming", "0123"),
    }
    assert (workspace.data / old).is_dir()
    assert clean_up(workspace, RetentionParams(), dry_run=False) == shown
    assert not (workspace.data / old).exists()
    assert (workspace.data / new).is_dir()
    assert not list((workspace.home / "incoming").iterdir())
    assert verify(workspace)["ok"]
    # What went is made again when it is wanted.
    checkout(workspace, "data-v1")
    assert verify(workspace, "data-v1")["ok"]
    assert [
        item
        for item in clean_up(workspace, RetentionParams(), dry_run=True)
        if item.store != "prepared" and not item.kept
    ] == []


def test_young_things_stay(workspace, monkeypatch):
    monkeypatch.undo()
    assert [item.store for item in clean_up(workspace, RetentionParams(), dry_run=True) if not item.kept] == []


def test_nothing_goes_where_it_cannot_be_told_what_is_needed(workspace):
    for place in (workspace.dvc_cache, Path(workspace.dvc_remote)):
        for listing in place.rglob("*.dir"):
            listing.chmod(0o644)
            listing.unlink()
    places = (workspace.data, workspace.dvc_cache, Path(workspace.dvc_remote), workspace.home / "incoming")
    before = [sorted(place.rglob("*")) for place in places]
    with pytest.raises(PosaError, match="neither cache nor remote"):
        clean_up(workspace, RetentionParams(), dry_run=False)
    assert [sorted(place.rglob("*")) for place in places] == before


def _die_at(workspace: Workspace, removals: int) -> None:
    rmtree, count = shutil.rmtree, 0

    def counted(path: Path, ignore_errors: bool = False) -> None:
        nonlocal count
        if Path(path).name.startswith(".removed-"):
            if count == removals:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        rmtree(path, ignore_errors=ignore_errors)

    shutil.rmtree = counted  # type: ignore[assignment]  # counts, then dies for real
    clean_up(workspace, RetentionParams(), dry_run=False)
    os._exit(0)


@pytest.mark.fault
def test_killed_at_a_removal_nothing_is_half_there(workspace):
    process = multiprocessing.get_context("fork").Process(target=_die_at, args=(workspace, 0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = [folder for folder in workspace.data.iterdir() if not folder.name.startswith(".removed-")]
    assert all((folder / "manifest.json").is_file() for folder in left)
    clean_up(workspace, RetentionParams(), dry_run=False)
    assert not list(workspace.home.rglob(".removed-*"))
    assert verify(workspace)["ok"]
