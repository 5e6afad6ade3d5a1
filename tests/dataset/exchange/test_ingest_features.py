"""Features, cameras and rows that can be taken for something else than they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_datasets import LENGTHS, add_column, edit_info, edit_rows, make_v21, make_v30, reader_of, trajectory

from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.schema import parse

ROWS = "data/chunk-000/file-000.parquet"


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


@pytest.mark.parametrize(("part", "name"), [("action", "action"), ("state", "observation.state")])
def test_what_is_mapped_is_not_overwritten_by_what_has_its_name(tmp_path, store, part, name):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "commanded", lambda frame: [0.25, 0.5, 0.75, frame / 100], "float32", (4,))
    reader = reader_of(folder, f"commanded={part}")
    done = ingest(store, reader)
    assert len(done.episodes) == 3
    for episode in store.episodes():
        np.testing.assert_allclose(getattr(episode, part)[:, :3], [[0.25, 0.5, 0.75]] * len(episode))
        assert name not in episode.extra
    assert name in reader.features.dropped
    assert "content" not in validate(store.root).rules


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("observation.camera.left.pose", False),
        ("observation.camera.cam_high.pose", False),
        ("observation.images.depth", False),
        ("observation.images", True),
        ("observation.camera", True),
    ],
)
def test_numbers_under_a_cameras_name_are_left_out_and_said(tmp_path, store, name, kept):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, name, [1.0, 2.0], "float32", (2,))
    reader = reader_of(folder)
    ingest(store, reader)
    assert (name in reader.features.extra, name in reader.features.dropped) == (kept, not kept)
    assert set(validate(store.root).rules) == ({"undeclared"} if kept else {"undeclared", "metadata"})


def test_whole_numbers_and_flags_are_kept_under_a_wider_type(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "observation.mode", pa.scalar(3, pa.int32()).as_py(), "int32")
    add_column(folder, "next.done", lambda frame: frame == 5, "bool")
    reader = reader_of(folder)
    assert ingest(store, reader).remarks == []
    for episode in store.episodes():
        assert episode.extra["observation.mode"].ravel().tolist() == [3] * len(episode)
        assert episode.extra["next.done"].ravel().tolist() == [int(f == 5) for f in range(len(episode))]
        assert {values.dtype.name for values in episode.extra.values()} == {"int64"}
    assert set(validate(store.root).rules) == {"undeclared"}


@pytest.mark.parametrize(
    ("flags", "success"),
    [([[False]], False), ([[True]], True), ([False], False), (1.0, True), (None, False)],
)
def test_a_failure_is_a_failure_however_it_is_stored(tmp_path, store, flags, success):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "next.success", flags)
    ingest(store, reader_of(folder))
    assert {episode.success for episode in store.episodes()} == {success}


def test_a_success_that_says_neither_yes_nor_no_is_kept_aside(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    add_column(folder, "next.success", "False")
    ingest(store, reader_of(folder))
    assert {(kept.rule, kept.value.split(" is ")[0]) for kept in store.quarantine.kept().values()} == {
        ("table", "column next.success")
    }


def test_two_cameras_of_one_short_name_are_not_guessed(tmp_path):
    cameras = ("observation.images.left.head", "observation.images.right.head")
    folder = make_v21(tmp_path / "dataset", cameras=cameras, video=False)
    with pytest.raises(BadInput, match=r"--map observation.images.left.head=head .*right.head=head_2"):
        reader_of(folder)


def test_an_episode_that_the_metadata_forgets_is_not_lost(tmp_path, store):
    folder = make_v30(tmp_path / "dataset", video=False)
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 2), path)
    edit_info(folder, total_episodes=2)
    done = ingest(store, reader_of(folder))
    assert (len(done.episodes), [remark.rule for remark in done.remarks]) == (3, ["metadata"])
    # A table that cannot be read hides nothing that the metadata names.
    (folder / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    assert len(ingest(store, reader_of(folder)).episodes) == 3


def test_a_row_out_of_place_costs_only_the_episodes_that_it_splits(tmp_path, store):
    folder = make_v30(tmp_path / "dataset", video=False)
    edit_rows(folder / ROWS, lambda number, row: row.update(episode_index=2) if number == 5 else None)
    done = ingest(store, reader_of(folder))
    kept = {k.episode: k.value for k in store.quarantine.kept().values()}
    assert len(done.episodes) == 1
    assert set(kept) == {0, 2}
    assert all("not in one piece" in value for value in kept.values())
    (episode,) = store.episodes()
    np.testing.assert_array_equal(episode.state, trajectory(1, LENGTHS[1])[0])


@pytest.mark.parametrize("offset", [0.0, 900.0])
def test_late_times_of_single_precision_are_regular_and_come_back(tmp_path, store, offset):
    folder = make_v21(tmp_path / "dataset", video=False)
    path = folder / "data/chunk-000/episode_000000.parquet"
    # At 0.003 frames/s a short episode ends after two hours, where single precision is coarser than the tolerance.
    fps = 0.003
    edit_info(folder, fps=fps)
    for number, length in enumerate(LENGTHS):
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        table = pq.read_table(path)
        times = pa.array((offset + np.arange(length) / fps).astype(np.float32))
        pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", times), path)
    ingest(store, reader_of(folder))
    assert all(episode.timestamps is None for episode in store.episodes())
    assert "content" not in validate(store.root).rules


@pytest.mark.parametrize("unit", ["ticks", "unstated"])
def test_joints_in_an_unknown_unit_are_not_given_to_kinematics(unit):
    channel = {"name": "elbow", "unit": unit}
    value = {
        "id": "arm",
        "simulated": False,
        "cameras": {},
        "state": [channel],
        "action": [channel],
        "action_frame": "joint",
        "control_hz": 10,
        "kinematics": {"mjcf": "arm.xml", "joints": {"elbow": "joint_2"}, "site": "hand"},
    }
    with pytest.raises(BadInput, match=f"state elbow is in {unit}, expected rad"):
        parse(Embodiment, value, "arm.yaml")


def test_a_folder_of_links_is_refused_with_what_to_do(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    place = folder / "meta/info.json"
    place.rename(tmp_path / "blob")
    place.symlink_to(tmp_path / "blob")
    with pytest.raises(BadInput, match="cp -rL"):
        reader_of(folder)
