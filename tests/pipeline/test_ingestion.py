"""Ingestion up to the point where DVC comes in: what is refused before the store is touched, and what is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from data_workspaces import data_params
from lerobot_datasets import CAMERA, LENGTHS, edit_info, make_v21, write_table
from taking_in import take_in

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.validation.decisions import quarantined_episodes, release_episode, remove_from_store
from posa_vla.dataset.validation.validate import validate
from posa_vla.dataset.versions.store_state import write_state
from posa_vla.episodes.store.declared import declared_embodiments
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import sha256_tree
from posa_vla.objects.open import open_objects
from posa_vla.params_file import overlaid
from posa_vla.pipeline.announcements import Announcement, DataIngested
from posa_vla.pipeline.incoming import fetch_tree
from posa_vla.pipeline.ingestion import Dataset, ingest_dataset
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path / "home"))


def add_column(folder: Path, name: str, value: Any, numbers: tuple[int, ...] = (0, 1, 2)) -> None:
    for number in numbers:
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        write_table(path, pq.read_table(path).append_column(name, pa.array([value] * LENGTHS[number])))
    edit_info(folder, features=None)


def stored(workspace: Workspace, folder: Path) -> EpisodeStore:
    """The dataset in the workspace's store, without a version of it."""
    store = EpisodeStore(workspace.store)
    take_in(store, folder)
    return store


def two_cameras(tmp_path: Path, first: str = "head", *, video: bool = False, black: str = "") -> tuple[Path, str]:
    cameras = (CAMERA, "observation.images.cam_wrist")
    folder = make_v21(tmp_path / "two", cameras=cameras, video=video, seed=50, black=black)
    channels = [{"name": f"j{i}", "unit": "rad"} for i in range(4)]
    roles = {first: {"source": "cam_high"}, "wrist": {"source": "cam_wrist"}}
    value = {"id": "test_arm", "simulated": False, "cameras": roles, "state": channels, "action": channels}
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({**value, "action_frame": "joint", "control_hz": 10}))
    return folder, str(file)


def test_a_dataset_that_cannot_be_prepared_with_the_others_does_not_come_in(tmp_path, workspace):
    store = stored(workspace, make_v21(tmp_path / "one", video=False))
    (batch,) = store.batches()
    before = sha256_tree(workspace.store)
    folder, file = two_cameras(tmp_path, "front")
    other = Dataset(str(folder), tmp_path, embodiment=file)
    with pytest.raises(BadInput, match=f"had other cameras.*posa data remove {batch[:12]}"):
        ingest_dataset(workspace, data_params(), other)
    assert sha256_tree(workspace.store) == before
    # The remedy helps.
    done = remove_from_store(workspace, batch[:8], "recorded with one camera")
    assert Path(done["folder"]).is_dir()
    made = ingest_dataset(workspace, data_params(validation_fraction=0.999), other)
    assert (made.accepted, made.new) == (3, 3)


def test_taking_something_out_needs_a_reason_and_a_name(tmp_path, workspace):
    folder = make_v21(tmp_path / "one")
    (folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    store = stored(workspace, folder)
    (batch,), (key,) = store.batches(), store.quarantine.kept()
    for name, reason, message in ((batch, " ", "needs a reason"), (key, "", "needs a reason"), ("x", "y", "no batch")):
        with pytest.raises(BadInput, match=message):
            remove_from_store(workspace, name, reason)
    assert len(quarantined_episodes(workspace, data_params(), tmp_path)) == 1
    remove_from_store(workspace, key, "the operator stopped it")
    assert quarantined_episodes(workspace, data_params(), tmp_path) == []
    assert set(store.quarantine.kept()) == {key}


def test_a_mistaken_calibration_leaves_nothing_behind(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    (tmp_path / "c.yaml").write_text(
        "cameras: {head: {intrinsics: {fx: 1, fy: 1, cx: 1, cy: 1, width: 10, height: 10}}}"
    )
    with pytest.raises(BadInput, match="give the calibration of these images"):
        ingest_dataset(workspace, data_params(), Dataset(str(folder), tmp_path, calibration=tmp_path / "c.yaml"))
    assert not (tmp_path / "test_arm.yaml").exists()
    assert not workspace.store.exists()


@pytest.mark.parametrize(
    ("lacking", "remedy"), [("DVC", "make setup"), ("git", "apt-get install git")], ids=["dvc", "git"]
)
def test_what_a_version_needs_is_missed_before_anything_comes_in(tmp_path, workspace, monkeypatch, lacking, remedy):
    folder = make_v21(tmp_path / "one", video=False)
    if lacking == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:  # what Python does where the package is not installed
        monkeypatch.setitem(sys.modules, "dvc", None)
    with pytest.raises(BadInput, match=f"{lacking}.*{remedy}"):
        ingest_dataset(workspace, data_params(), Dataset(str(folder), tmp_path))
    assert not (tmp_path / "test_arm.yaml").exists()
    assert not workspace.home.exists()


def test_a_store_between_two_versions_takes_nothing_in(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    write_state(workspace, "data-v1", "ab" * 32, [], moving=True)
    with pytest.raises(BadInput, match="posa data checkout data-v1` finishes it"):
        ingest_dataset(workspace, data_params(), Dataset(str(folder), tmp_path))
    assert not workspace.store.exists()


@pytest.mark.parametrize(
    ("succeeded", "held_out", "words"),
    [(False, 0.0, "sound and successful"), (True, 0.9999, "all 3 are held out by prepare.validation_fraction 0.9999")],
)
def test_nothing_to_learn_from_is_said_and_no_failure(tmp_path, workspace, capsys, succeeded, held_out, words):
    folder = make_v21(tmp_path / "one", video=False)
    add_column(folder, "next.success", succeeded)
    params = data_params(validation_fraction=held_out)
    made = ingest_dataset(workspace, params, Dataset(str(folder), tmp_path, origin="deployment"))
    assert (made.accepted, made.new, made.data_version, made.name) == (3, 3, None, None)
    assert words in capsys.readouterr().err


def test_actions_that_are_the_next_states_do_not_come_in(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    for number in range(len(LENGTHS)):
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        table = pq.read_table(path)
        states = table["observation.state"].combine_chunks()
        ahead = pa.concat_arrays([states[1:], states[-1:]])
        write_table(path, table.set_column(table.column_names.index("action"), "action", ahead))
    with pytest.raises(BadInput, match="were leader and follower mixed up"):
        ingest_dataset(workspace, data_params(), Dataset(str(folder), tmp_path / "declared"))
    assert not workspace.store.exists()
    assert not (tmp_path / "declared").exists()


@pytest.mark.parametrize("video", [True, False])
def test_a_camera_that_is_black_in_every_episode_does_not_come_in(tmp_path, workspace, video):
    folder, file = two_cameras(tmp_path, video=video, black="observation.images.cam_wrist")
    with pytest.raises(BadInput, match=r"pictures of wrist are black in all .*--embodiment FILE.*severity=warning"):
        ingest_dataset(workspace, data_params(), Dataset(str(folder), tmp_path, embodiment=file))
    assert not workspace.store.exists()
    # Who takes black pictures for sound has said so.
    sound = overlaid(data_params(), {"validation": {"black": {"severity": "warning"}}}, "test")
    assert ingest_dataset(workspace, sound, Dataset(str(folder), tmp_path, embodiment=file)).accepted == 3


def test_limits_that_were_declared_since_count_for_quarantine_release_and_export(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    add_column(folder, "next.success", False)
    dataset, params = Dataset(str(folder), tmp_path), data_params()
    assert ingest_dataset(workspace, params, dataset).quarantined == 0
    declaration = yaml.safe_load((tmp_path / "test_arm.yaml").read_text())
    declaration["state"][0] |= {"low": -0.1, "high": 0.1}
    (tmp_path / "test_arm.yaml").write_text(yaml.safe_dump(declaration))
    assert ingest_dataset(workspace, params, dataset).quarantined == 3
    rows = quarantined_episodes(workspace, params, tmp_path)
    assert {f.rule for row in rows for f in row.findings} == {"limits-nonsense"}
    assert len(rows) == 3
    release_episode(workspace, params, tmp_path, rows[0].episode, "the limit is wrong")
    store = EpisodeStore(workspace.store)
    declared = declared_embodiments(store, params, tmp_path)
    report = validate(store.root, params.validation, declared=declared)
    exported = export(store, report, tmp_path / "out", failures=True, declared=declared)
    assert (exported["episodes"], exported["left_out"]) == (1, 2)


def test_each_batch_is_announced_with_its_own_count_and_to_its_robots_target_alone(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    add_column(folder, "next.success", False)
    add_column(folder, "observation.effort", 1.0, (0,))  # unlike the others: a batch of its own
    told: list[Announcement] = []
    params = data_params()
    ingest_dataset(workspace, params, Dataset(str(folder), tmp_path), told.append)
    assert told == []
    own = params.targets["t"].model_copy(update={"embodiment": str(tmp_path / "test_arm.yaml")})
    other = make_v21(tmp_path / "other", video=False, seed=70)
    add_column(other, "next.success", False)
    add_column(other, "observation.effort", 1.0, (0,))
    params = params.model_copy(update={"targets": {"t": own}})
    made = ingest_dataset(workspace, params, Dataset(str(other), tmp_path), told.append)
    assert all(isinstance(announcement, DataIngested) and announcement.target == "t" for announcement in told)
    assert sorted(announcement.episodes for announcement in told) == [1, 2]
    assert {announcement.batch for announcement in told} == set(made.batches)


def test_what_was_fetched_is_used_again_only_while_it_is_what_the_store_has(tmp_path):
    remote, folder = open_objects(str(tmp_path / "remote")), tmp_path / "here"
    for name in ("same", "older", "changed"):
        remote.put(name, b"now")
    for name, text in (("same", b"NOW"), ("older", b"old"), ("changed", b"other"), ("gone/away", b"x")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    stored_at = max(item.modified for item in remote.stored())
    os.utime(folder / "same", (stored_at + 3600, stored_at + 3600))
    os.utime(folder / "older", (stored_at - 3600, stored_at - 3600))
    fetch_tree(remote, list(remote.stored()), folder)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    # `same` is taken for what it was: nothing of it was read again.
    assert found == {"same": b"NOW", "older": b"now", "changed": b"now"}
