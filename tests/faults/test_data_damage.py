"""A byte flipped, a file cut off or gone: found, named with its remedy, and mended by that very remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from data_workspaces import copy_of, data_params

from posa_vla.dataset.versions.checkout import checkout
from posa_vla.dataset.versions.history import list_versions
from posa_vla.dataset.versions.make import version_data
from posa_vla.dataset.versions.verify import require_sound, verify
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import sha256_tree
from posa_vla.workspace import Workspace

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture
def workspace(two_versions_made, tmp_path) -> Workspace:
    return copy_of(two_versions_made, tmp_path)


def largest(folder: Path, pattern: str = "*") -> Path:
    return max((p for p in folder.rglob(pattern) if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    # In place: all names of the file see it, as they do when a disk lies.
    with path.open("r+b") as file:
        file.write(content)


def cut(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def as_object(path: Path) -> str:
    """Where DVC keeps a file's content."""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


PLACES: dict[str, Callable[[Workspace], Path]] = {
    # The object that is the newest version's table.
    "remote": lambda w: Path(w.dvc_remote) / as_object(largest(w.store / "batches", "file-000.parquet")),
    "cache": lambda w: w.dvc_cache / as_object(largest(w.store / "batches", "file-000.parquet")),
    "video": lambda w: largest(w.store, "*.mp4"),
    "table": lambda w: largest(w.store / "batches", "file-000.parquet"),
    "shard": lambda w: largest(w.data, "train.safetensors"),
}


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        ("remote", flip),
        pytest.param("remote", cut, marks=pytest.mark.long),
        pytest.param("remote", Path.unlink, marks=pytest.mark.long),
        pytest.param("cache", flip, marks=pytest.mark.long),
        pytest.param("video", cut, marks=pytest.mark.long),
        pytest.param("video", Path.unlink, marks=pytest.mark.long),
        pytest.param("table", flip, marks=pytest.mark.long),
        pytest.param("shard", flip, marks=pytest.mark.long),
        pytest.param("shard", cut, marks=pytest.mark.long),
        pytest.param("shard", Path.unlink, marks=pytest.mark.long),
    ],
)
def test_damage_is_found_named_and_mended_by_its_remedy(workspace, place, damage):
    sound = {v.name: v.record.store_files for v in list_versions(workspace)}
    path = PLACES[place](workspace)
    damage(path)
    report = verify(workspace)
    assert not report["ok"]
    files = [problem["file"] for problem in report["problems"]]
    # A file of the store, its object in the cache and a place in a version may be one: each name is reported.
    assert str(path) in files
    with pytest.raises(PosaError, match="remedy: posa data"):
        require_sound(report)
    for remedy in sorted({problem["remedy"] for problem in report["problems"]}, reverse=True):
        if remedy.endswith("--repair"):
            verify(workspace, repair=True)
        else:
            checkout(workspace, remedy.split()[-1])
    again = verify(workspace)
    assert again["ok"], again["problems"]
    assert {v.name: v.record.store_files for v in list_versions(workspace)} == sound
    checkout(workspace, "data-v1")
    assert verify(workspace)["name"] == "data-v1"
    assert verify(workspace)["ok"]


def test_what_a_repair_puts_on_the_remote_is_a_copy_of_its_own(workspace):
    path = largest(workspace.store, "*.mp4")
    remote = Path(workspace.dvc_remote) / as_object(path)
    flip(remote)
    assert verify(workspace, repair=True)["repaired"] == [str(remote)]
    assert verify(workspace)["ok"]
    sound = remote.read_bytes()
    flip(path)
    assert remote.read_bytes() == sound
    assert {problem["where"] for problem in verify(workspace)["problems"]} == {"store", "cache"}


def test_damage_here_and_on_the_remote_is_said_and_changes_nothing(workspace):
    path = largest(workspace.store, "*.mp4")
    remote = Path(workspace.dvc_remote) / as_object(path)
    flip(path)
    flip(remote)
    before = sha256_tree(workspace.store)
    with pytest.raises(PosaError, match="missing or damaged, and the cache has no sound copy"):
        checkout(workspace, "data-v2")
    assert sha256_tree(workspace.store) == before


def test_a_changed_batch_is_not_made_part_of_a_new_version(workspace):
    path = largest(workspace.store / "batches", "*.mp4")
    flip(path)
    (_, reader), *_ = EpisodeStore(workspace.store).readers()
    with pytest.raises(
        BadInput, match=r"is not what it was \(compared with data-v2\): .* `posa data checkout data-v2`"
    ):
        version_data(workspace, data_params(), reader.embodiment)
    checkout(workspace, "data-v2")
    assert version_data(workspace, data_params(), reader.embodiment).name == "data-v2"
