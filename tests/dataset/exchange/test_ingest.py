from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from lerobot_datasets import CAMERA, FPS, LENGTHS, TASKS, edit_info, make_v21, make_v30, reader_of, trajectory
from taking_in import change_table, take_in, with_column

from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.report import Quarantined
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import sha256_tree
from posa_vla.sim.gl import require_gl


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def pictures(episode: Episode, role: str = "head") -> list[bytes]:
    images = episode.cameras[role].images
    assert isinstance(images, StoredImages)
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_every_number_and_picture_of_a_dataset_is_in_the_store(tmp_path, store, make, video):
    reader = reader_of(make(tmp_path / "dataset", video=video))
    done = ingest(store, reader)
    assert (done.new, len(done.episodes), done.kept, done.remarks) == (3, 3, [], [])
    episodes = list(store.episodes())
    for number, (where, episode) in enumerate(zip(reader.source.episodes(), episodes, strict=True)):
        state, action = trajectory(number, LENGTHS[number])
        np.testing.assert_array_equal(episode.state, state)
        np.testing.assert_array_equal(episode.action, action)
        assert (episode.instruction, episode.fps, episode.source) == (TASKS[number % 2], FPS, "teleop")
        assert pictures(episode) == pictures(reader.episode(where))
        assert len(set(pictures(episode))) == len(episode)
    report = validate(store.root)
    assert report.quarantined == []
    assert set(report.rules) == {"undeclared"}


def test_the_same_episode_twice_is_one_whichever_way_it_comes(tmp_path, store):
    first = take_in(store, make_v21(tmp_path / "one", video=False))
    before = sha256_tree(store.root)
    again = take_in(store, tmp_path / "one")
    other = take_in(store, make_v30(tmp_path / "other", video=False))
    assert (first.new, again.new, other.new) == (3, 0, 0)
    assert first.episodes == again.episodes == other.episodes
    assert first.batches == again.batches == other.batches
    assert sha256_tree(store.root) == before


def test_an_episode_without_its_video_is_kept_with_its_files_and_the_others_come_in(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    (folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    done = take_in(store, folder)
    assert (len(done.episodes), len(done.kept), done.new) == (2, 1, 3)
    kept = store.quarantine.kept()[done.kept[0]]
    assert (kept.episode, kept.rule, kept.length) == (1, "images", LENGTHS[1])
    (digest,) = kept.files.values()
    table = (folder / "data/chunk-000/episode_000001.parquet").read_bytes()
    assert (store.root / f"quarantine/files/{digest}.parquet").read_bytes() == table
    report = validate(store.root)
    assert report.unreadable == 1
    assert report.quarantined == [Quarantined(batch=done.kept[0], episode=1, kept_aside=True)]
    assert take_in(store, folder).new == 0


def with_nan(table: pa.Table) -> pa.Table:
    rows = table["observation.state"].to_pylist()
    rows[3][1] = float("nan")
    return with_column(table, "observation.state", pa.array(rows, pa.list_(pa.float32())))


@pytest.mark.parametrize(
    ("change", "rule", "message"),
    [
        (lambda d: change_table(d, 1, with_nan), "finite", "state is not finite at frame 3"),
        (lambda d: change_table(d, 1, lambda t: t.slice(0, 20)), "images", "30 frames, the episode's table 20"),
        (lambda d: change_table(d, 1, lambda t: t.drop(["action"])), "table", "column action is not in the table"),
        (
            lambda d: change_table(d, 1, lambda t: with_column(t, "action", pa.array([[1.0]] * 29 + [[1.0, 2.0]]))),
            "table",
            "no vector of numbers",
        ),
        (lambda d: change_table(d, 1, lambda t: with_column(t, "action", pa.array([None] * 30))), "table", "empty"),
        (lambda d: (d / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1"), "table", "damaged"),
        (lambda d: (d / "data/chunk-000/episode_000001.parquet").unlink(), "table", "does not exist"),
    ],
)
def test_a_broken_episode_is_quarantined_with_its_reason_and_nothing_else_is(tmp_path, store, change, rule, message):
    folder = make_v21(tmp_path / "dataset")
    change(folder)
    done = take_in(store, folder)
    assert len(done.episodes) == 2
    kept = store.quarantine.kept()[done.kept[0]]
    assert (kept.episode, kept.rule) == (1, rule)
    assert message in kept.value
    assert str(tmp_path) not in kept.value


def test_cameras_are_never_guessed_and_the_message_can_be_pasted(tmp_path, store):
    cameras = ("observation.images.cam_high", "observation.images.cam_left_wrist")
    folder = make_v21(tmp_path / "dataset", cameras=cameras)
    with pytest.raises(BadInput) as error:
        reader_of(folder)
    flags = [word for word in str(error.value).split() if "=" in word]
    assert flags == [f"{cameras[0]}=head", f"{cameras[1]}=wrist_left"]
    take_in(store, folder, *flags)
    (episode, *_) = store.episodes()
    assert set(episode.cameras) == {"head", "wrist_left"}


def test_features_of_other_names_are_proposed_and_then_mapped(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    for number in range(3):
        change_table(
            folder, number, lambda t: t.rename_columns([{"action": "actions"}.get(n, n) for n in t.column_names])
        )
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    edit_info(folder, features={{"action": "actions"}.get(name, name): value for name, value in features.items()})
    with pytest.raises(BadInput, match="--map actions=action"):
        reader_of(folder)
    assert take_in(store, folder, "actions=action").new == 3


def test_a_folder_that_disagrees_with_its_metadata_is_believed_and_reported(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    shutil.move(folder / "videos/chunk-000", folder / "videos/moved")
    rows = [{"episode_index": 0, "tasks": TASKS, "length": 99}]
    (folder / "meta/episodes.jsonl").write_text(json.dumps(rows[0]) + "\n")
    edit_info(folder, total_episodes=7, features=None)
    done = take_in(store, folder)
    assert done.new == 3
    # All of it is in the report, for good: with its episode, its rule and a remedy.
    found = [f for f in validate(store.root).findings if f.rule == "metadata"]
    assert [(f.episode, f.severity) for f in found] == [(None, "warning")] * 2 + [(0, "warning")] * 2
    for finding, words in zip(found, ("counts 7 episodes", "moved", "counts 99 frames", "2 instructions"), strict=True):
        assert words in finding.value
        assert finding.remedy
    assert len(done.remarks) == 4
    # Where the list of episodes is silent, the table's task says it.
    assert [episode.instruction for episode in store.episodes()] == [TASKS[0], TASKS[1], TASKS[0]]


def test_what_was_recorded_besides_is_kept(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    for number in range(3):
        effort = [[0.5, float(number)]] * LENGTHS[number]
        change_table(
            folder,
            number,
            lambda t, e=effort: t.append_column("observation.effort", pa.array(e, pa.list_(pa.float32()))),
        )
    edit_info(folder, features=None)
    take_in(store, folder)
    for number, episode in enumerate(store.episodes()):
        assert episode.extra["observation.effort"][-1].tolist() == [0.5, number]


def test_recorded_times_are_kept_and_a_gap_is_found(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    times = np.arange(LENGTHS[1]) / FPS
    times[10:] += 0.35
    change_table(folder, 1, lambda t: with_column(t, "timestamp", pa.array(times, pa.float32())))
    take_in(store, folder)
    (_, episode, _) = store.episodes()
    np.testing.assert_allclose(episode.timestamps, times, atol=1e-6)
    (finding,) = [f for f in validate(store.root).findings if f.rule == "dropped-frames"]
    assert (finding.episode, finding.frame) == (1, 10)
    assert "about 4 are missing" in finding.value or "about 3 are missing" in finding.value


ARM = """
<mujoco><worldbody><body name="base" pos="0 0 1">
  <body name="upper"><joint name="shoulder" type="hinge" axis="0 0 1"/><geom size=".1"/>
    <body name="lower" pos="1 0 0"><joint name="slide" type="slide" axis="1 0 0"/><geom size=".1"/>
      <site name="hand" pos="0.5 0 0"/></body></body></body></worldbody></mujoco>
"""


def arm(tmp_path: Path) -> Embodiment:
    (tmp_path / "arm.xml").write_text(ARM)
    channels = [{"name": f"j{i}", "unit": "rad", "low": -2, "high": 2} for i in range(4)]
    value = {
        "id": "arm",
        "simulated": False,
        "cameras": {"head": {"source": "cam_high"}},
        "state": channels,
        "action": channels,
        "action_frame": "joint",
        "control_hz": FPS,
        "kinematics": {"mjcf": "arm.xml", "joints": {"j0": "shoulder", "j2": "slide"}, "site": "hand", "base": "base"},
        "gripper": {"vector": "action", "channel": "j3", "closed": -1, "open": 1},
    }
    return Embodiment.model_validate(value)


def test_joints_and_calibration_give_poses_and_anchors_and_nothing_is_invented(tmp_path, store):
    embodiment = arm(tmp_path)
    (tmp_path / "calibration.yaml").write_text(
        yaml.safe_dump(
            {
                "cameras": {
                    "head": {
                        "intrinsics": {"fx": 40, "fy": 40, "cx": 48, "cy": 32, "width": 96, "height": 64},
                        "base_from_camera": {"position": [0, 0, 4], "quaternion": [0, 1, 0, 0]},
                    }
                }
            }
        )
    )
    calibration = load_calibration(tmp_path / "calibration.yaml", ["head"])
    folder = make_v21(tmp_path / "dataset")
    require_gl()  # before MuJoCo is imported: a later test draws
    kinematics = ForwardKinematics(embodiment, tmp_path)
    take_in(store, folder, embodiment=embodiment, calibration=calibration, kinematics=kinematics)
    (episode, *_) = store.episodes()
    angle, reach = episode.state[:, 0], 1.5 + episode.state[:, 2]
    assert episode.end_effector is not None
    expected = np.stack([reach * np.cos(angle), reach * np.sin(angle), np.zeros(len(angle))], axis=1)
    np.testing.assert_allclose(episode.end_effector[:, :3], expected, atol=1e-6)
    # The pictures are half the size of those that were calibrated.
    intrinsics = episode.cameras["head"].intrinsics
    assert intrinsics is not None
    assert intrinsics[0].tolist() == [20, 20, 24, 16]
    without = [f.value for f in validate(store.root).findings if f.rule == "undeclared"]
    assert without == []


def test_a_hand_camera_moves_with_the_hand(tmp_path, store):
    embodiment = arm(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "cameras: {head: {intrinsics: {fx: 40, fy: 40, cx: 24, cy: 16, width: 48, height: 32}, "
        "end_effector_from_camera: {position: [0, 0, 0.1], quaternion: [1, 0, 0, 0]}}}"
    )
    calibration = load_calibration(tmp_path / "c.yaml", ["head"])
    kinematics = ForwardKinematics(embodiment, tmp_path)
    folder = make_v21(tmp_path / "dataset")
    take_in(store, folder, embodiment=embodiment, calibration=calibration, kinematics=kinematics)
    (episode, *_) = store.episodes()
    pose = episode.cameras["head"].pose
    assert pose is not None
    assert episode.end_effector is not None
    np.testing.assert_allclose(pose[:, :3], episode.end_effector[:, :3] + [0, 0, 0.1], atol=1e-6)


def test_a_hand_camera_of_which_the_tip_s_pixel_alone_is_known_keeps_it_in_the_store(tmp_path, store):
    (tmp_path / "c.yaml").write_text("cameras: {head: {end_effector_pixel: {u: 60, v: 40, width: 96, height: 64}}}")
    calibration = load_calibration(tmp_path / "c.yaml", ["head"])
    take_in(store, make_v21(tmp_path / "dataset"), embodiment=arm(tmp_path), calibration=calibration)
    (episode, *_) = store.episodes()
    camera = episode.cameras["head"]
    assert camera.pose is None
    assert camera.intrinsics is None
    # The pictures are half the size of those that were clicked in.
    assert camera.end_effector_pixel is not None
    assert camera.end_effector_pixel.tolist() == [[30, 20]] * len(episode)
    assert validate(store.root).unreadable == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}", "intrinsics are missing"),
        ("{end_effector_pixel: {u: 97, v: 4, width: 96, height: 64}}", "outside of an image of 96 x 64"),
        (
            "{end_effector_pixel: {u: 9, v: 4, width: 96, height: 64}, "
            "base_from_camera: {position: [0, 0, 1], quaternion: [1, 0, 0, 0]}}",
            "or intrinsics and where the camera is",
        ),
    ],
)
def test_a_calibration_that_says_too_little_or_two_things_is_bad_input(tmp_path, entry, message):
    (tmp_path / "c.yaml").write_text(f"cameras: {{head: {entry}}}")
    with pytest.raises(BadInput, match=message):
        load_calibration(tmp_path / "c.yaml", ["head"])


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["nothing=head"], "no such feature"),
        (["action=head"], "is no camera"),
        (["action"], "expected FEATURE=PART"),
        (["action=state", "observation.state=state"], "mapped twice"),
    ],
)
def test_a_mapping_that_does_not_fit_is_bad_input(tmp_path, mapping, message):
    folder = make_v21(tmp_path / "dataset")
    with pytest.raises(BadInput, match=message):
        reader_of(folder, *mapping)


def test_another_rate_than_the_robots_is_bad_input(tmp_path):
    faster = arm(tmp_path).model_copy(update={"control_hz": 30.0, "kinematics": None})
    with pytest.raises(BadInput, match="10 frames/s, embodiment arm is controlled at 30 Hz"):
        reader_of(make_v21(tmp_path / "dataset"), embodiment=faster)


def test_paths_in_metadata_do_not_leave_the_folder(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    secret = tmp_path / "secret" / "episode_000000.parquet"
    secret.parent.mkdir()
    shutil.copy(folder / "data/chunk-000/episode_000000.parquet", secret)
    edit_info(folder, data_path="../secret/episode_{episode_index:06d}.parquet")
    done = take_in(store, folder)
    # The tables lie where they always lie: they are found by their names, the secret one is not read.
    assert len(done.kept) + len(done.episodes) == 3
    for number in range(3):
        place = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        place.unlink()
        place.symlink_to(secret)
    with pytest.raises(BadInput, match="leaves"):
        open_source(folder)


REAL = Path(__file__).parents[4] / "shared" / "data" / "g1_real_v21"


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the real robot dataset lies beside the project only where it is developed"
)
def test_a_real_humanoids_dataset_has_two_good_episodes_and_one_quarantined(store):
    done = take_in(store, REAL)
    assert (len(done.episodes), len(done.kept)) == (2, 1)
    report = validate(store.root)
    assert [row.kept_aside for row in report.quarantined] == [True]
    assert report.frames == 736
    masked = [f.value for f in report.findings if f.rule == "undeclared"]
    assert any("all anchors are masked" in value for value in masked)
