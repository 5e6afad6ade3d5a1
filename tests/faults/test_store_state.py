"""The store and its history: what went missing, was changed or stopped half way is never versioned silently."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from data_workspaces import copy_of, data_params
from lerobot_datasets import make_v21

from posa_vla.dataset.versions.checkout import checkout
from posa_vla.dataset.versions.history import list_versions
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.dataset.versions.store_state import read_state, write_state
from posa_vla.dataset.versions.verify import verify
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.pipeline.ingestion import Dataset, ingest_dataset
from posa_vla.pipeline.steps.version import version_store
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.fault


@pytest.fixture
def workspace(two_versions_made: Workspace, tmp_path: Path) -> Workspace:
    return copy_of(two_versions_made, tmp_path)


def batch_of(workspace: Workspace, name: str, other: str) -> Path:
    """The batch that version `name` has and `other` has not."""
    versions = {v.name: {e.batch for e in v.record.episodes.values()} for v in list_versions(workspace)}
    return workspace.store / "batches" / (versions[name] - versions[other]).pop()


def version(workspace: Workspace, **prepare: Any) -> DataVersion:
    store = EpisodeStore(workspace.store)
    embodiment = DatasetReader(store.folder(store.batches()[0])).embodiment
    return version_store(workspace, data_params(**prepare), embodiment).record


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # its bytes are shared with cache and other versions
    path.write_bytes(bytes(data))


def test_a_batch_that_has_gone_is_missed_and_comes_back(workspace: Workspace) -> None:
    batch = batch_of(workspace, "data-v2", "data-v1")
    shutil.rmtree(batch)
    report = verify(workspace)
    assert (report["ok"], report["name"]) == (False, "data-v2")
    assert {p["remedy"] for p in report["problems"]} == {"posa data checkout data-v2"}
    with pytest.raises(BadInput, match=rf"{batch.name} is missing.*posa data checkout data-v2"):
        version(workspace)  # what is left is data-v1, and would be trained on
    checkout(workspace, "data-v2")
    assert verify(workspace)["ok"]
    assert version(workspace).name == "data-v2"


def test_after_a_checkout_that_version_is_verified_and_trained_on(workspace: Workspace) -> None:
    assert verify(workspace)["name"] == "data-v2"
    checkout(workspace, "data-v1")
    report = verify(workspace)
    assert (report["ok"], report["name"]) == (True, "data-v1")
    assert version(workspace).name == "data-v1"


def test_another_version_is_sound_although_its_prepared_data_were_cleaned_up(workspace: Workspace) -> None:
    first = list_versions(workspace)[0].record.version
    shutil.rmtree(workspace.data / first)
    report = verify(workspace, "data-v1")
    assert (report["ok"], report["name"]) == (True, "data-v1")
    assert report["files"] > 0, "its batch is in the store, and was read"
    shutil.rmtree(workspace.data / list_versions(workspace)[1].record.version)
    assert not verify(workspace)["ok"], "what the store is at must be there"


def test_a_checkout_that_was_cut_off_is_finished_before_anything_is_learnt(workspace: Workspace) -> None:
    victim = (
        "import os, signal, sys, pathlib\n"
        "from posa_vla.dataset.versions import checkout as versions\n"
        "from posa_vla.settings import Settings\nfrom posa_vla.workspace import Workspace\n"
        "versions._replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "versions.checkout(Workspace.open(Settings(home=pathlib.Path(sys.argv[1]))), 'data-v1')\n"
    )
    done = subprocess.run([sys.executable, "-c", victim, str(workspace.home)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    state = read_state(workspace)
    assert state is not None
    assert (state.name, state.moving) == ("data-v1", True)
    for act in (version, verify):
        with pytest.raises(BadInput, match=r"between two versions.*posa data checkout data-v1` finishes it"):
            act(workspace)
    checkout(workspace, "data-v1")
    assert verify(workspace)["name"] == "data-v1"


def test_a_changed_batch_is_found_whichever_version_has_it(workspace: Workspace, tmp_path: Path) -> None:
    checkout(workspace, "data-v1")
    third = Dataset(str(make_v21(tmp_path / "three", seed=900)), tmp_path)
    assert ingest_dataset(workspace, data_params(), third).name == "data-v3"
    checkout(workspace, "data-v2")  # the newest version does not have its second batch
    video = next(batch_of(workspace, "data-v2", "data-v1").rglob("*.mp4"))
    flip(video)
    shutil.rmtree(workspace.home / "ledger")  # else the version that is made already is handed out again
    with pytest.raises(BadInput, match=rf"{video.name} is not what it was \(compared with data-v2\)"):
        version(workspace, image_size=16)  # what was prepared of data-v2 as it was stays good


@pytest.mark.parametrize("how", ["missing", "added"])
def test_a_batch_with_a_file_too_few_or_too_many_is_not_versioned(workspace: Workspace, how: str) -> None:
    batch = batch_of(workspace, "data-v2", "data-v1")
    if how == "missing":
        (batch / "meta" / "stats.json").unlink()
    else:
        (batch / "meta" / "notes.txt").write_text("mine")
    words = "stats.json is missing" if how == "missing" else "notes.txt is new there"
    write_state(workspace, "none", "0" * 64, [])
    shutil.rmtree(workspace.home / "ledger")
    with pytest.raises(BadInput, match=words):
        version(workspace)


def test_a_damaged_shard_is_not_trained_on_and_is_made_again(workspace: Workspace) -> None:
    before = version(workspace)
    shard = workspace.home / before.folder / "train.safetensors"
    whole = shard.read_bytes()
    flip(shard)
    assert version(workspace) == before
    assert shard.read_bytes() == whole
