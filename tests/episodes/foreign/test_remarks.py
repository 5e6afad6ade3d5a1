"""What no episode of a dataset can fit is one message; what one says otherwise than the store will is reported."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from lerobot_datasets import CAMERA, FPS, LENGTHS, make_v21, reader_of
from taking_in import change_table, take_in, with_column

from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

CALIBRATION = (
    "cameras: {head: {intrinsics: {fx: 40, fy: 40, cx: 24, cy: 16, width: 48, height: 32}, "
    "base_from_camera: {position: [0, 0, 4], quaternion: [0, 1, 0, 0]}}}"
)


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def named(*names: str) -> Embodiment:
    channels = [{"name": name, "unit": "rad"} for name in names]
    value = {"state": channels, "action": channels, "id": "arm", "simulated": False, "control_hz": FPS}
    return Embodiment.model_validate({**value, "cameras": {"head": {"source": "cam_high"}}, "action_frame": "joint"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["j0", "j1", "j2"], r"has 4 channels \(j0, j1, j2, j3\), embodiment arm declares 3 \(j0, j1, j2\)"),
        (["j3", "j2", "j1", "j0"], "has the channels j0, j1, j2, j3, embodiment arm declares j3, j2, j1, j0"),
    ],
)
def test_channels_that_are_not_the_robots_are_bad_input(tmp_path, names, message):
    with pytest.raises(BadInput, match=message):
        reader_of(make_v21(tmp_path / "dataset", video=False), embodiment=named(*names))


def test_channels_that_one_side_only_numbers_are_not_compared(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    assert take_in(store, folder, embodiment=named("channel_0", "channel_1", "channel_2", "channel_3")).new == 3


def test_pictures_mapped_to_numbers_are_bad_input(tmp_path):
    folder = make_v21(tmp_path / "dataset")
    with pytest.raises(BadInput, match=r"cam_high is video, expected numbers for state.*observation.state"):
        reader_of(
            folder, f"{CAMERA}=state", embodiment=named("j0", "j1", "j2", "j3").model_copy(update={"cameras": {}})
        )


def test_a_calibration_of_other_pictures_is_bad_input_even_if_the_first_episode_has_none(tmp_path):
    folder = make_v21(tmp_path / "dataset")
    (folder / f"videos/chunk-000/{CAMERA}/episode_000000.mp4").unlink()
    (tmp_path / "c.yaml").write_text(CALIBRATION.replace("width: 48", "width: 64"))
    with pytest.raises(BadInput, match="camera head: the calibration is for images of 64 x 32, these are 48 x 32"):
        reader_of(folder, calibration=load_calibration(tmp_path / "c.yaml", ["head"]))


def test_one_odd_episode_is_no_mistake_of_the_declaration(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    change_table(folder, 0, lambda t: with_column(t, "action", pa.array([[1.0, 2.0]] * len(t), pa.list_(pa.float32()))))
    done = take_in(store, folder, embodiment=named("j0", "j1", "j2", "j3"))
    assert (len(done.episodes), [kept.rule for kept in store.quarantine.kept().values()]) == (2, ["table"])


def test_where_no_column_can_be_read_each_episode_is_kept_with_its_own_reason(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    for number in range(3):
        change_table(folder, number, lambda t: with_column(t, "action", pa.array([None] * len(t))))
    done = take_in(store, folder)
    assert [kept.rule for kept in store.quarantine.kept().values()] == ["table"] * 3
    assert done.episodes == []


def test_text_of_digits_is_no_number(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    change_table(folder, 1, lambda t: with_column(t, "action", pa.array([["1", "2", "3", "4"]] * len(t))))
    done = take_in(store, folder)
    (kept,) = [store.quarantine.kept()[key] for key in done.kept]
    assert (kept.episode, kept.rule) == (1, "table")
    assert "its values are string, expected numbers" in kept.value


def test_numbers_and_times_that_the_store_gives_anew_are_judged_as_they_came(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    gap = np.arange(LENGTHS[0]) + (np.arange(LENGTHS[0]) > 7)
    change_table(folder, 0, lambda t: with_column(t, "frame_index", pa.array(gap)))
    early = (np.arange(LENGTHS[1]) / FPS - 100).astype(np.float32)
    change_table(folder, 1, lambda t: with_column(t, "timestamp", pa.array(early)))
    change_table(folder, 2, lambda t: with_column(t, "frame_index", pa.array(np.arange(LENGTHS[2]) + 3)))
    take_in(store, folder)
    report = validate(store.root)
    found = [f for f in report.findings if f.rule in {"timestamps", "metadata"}]
    assert [(f.rule, f.episode, f.frame) for f in found] == [
        ("timestamps", 0, 8),
        ("timestamps", 1, 0),
        ("metadata", 2, 0),
    ]
    assert [row.episode for row in report.quarantined] == [0, 1]
