"""A robot with two arms, from somebody's LeRobot dataset to a policy that acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lerobot_datasets import CAMERA, FPS, LENGTHS, edit_info, make_v21, reader_of
from source_chains import source_model, source_poses
from taking_in import change_table, with_column
from training_params import quick_params

from posa_vla.dataset.calibration.events import gripper_changes
from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.labels import acting_grippers, anchor_labels
from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.episode_page import page_of
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.calibration import calibrate, load_calibration
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.embodiment import Embodiment, load_embodiment, shipped_embodiments
from posa_vla.episodes.episode import UNSEEN, CameraTrack, Episode
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.evaluation.explain import explain_episode
from posa_vla.evaluation.pictures import overlay
from posa_vla.files import read_json, write_json
from posa_vla.model.posa_policy import load_policy
from posa_vla.params import PrepareParams
from posa_vla.policy.policy import Observation
from posa_vla.schema import parse
from posa_vla.training.loop import train
from posa_vla.yaml_file import yaml_text

FOLDER = shipped_embodiments()["aloha"].parent
# Frames at which the left and then the right gripper close.
LEFT, RIGHT = 6, 13
# Above the table, looking down, in pictures of 48 x 32.
HEIGHT, FOCAL = 1.6, 40.0
CALIBRATION = {
    "schema_version": 1,
    "cameras": {
        "head": {
            "intrinsics": {"fx": FOCAL, "fy": FOCAL, "cx": 24, "cy": 16, "width": 48, "height": 32},
            "base_from_camera": {"position": [0, 0.5, HEIGHT], "quaternion": [0, 1, 0, 0]},
        }
    },
}


def aloha() -> Embodiment:
    """The shipped one with a camera, at the rate of the datasets of these tests."""
    value = load_embodiment("aloha").model_dump(mode="json")
    return parse(Embodiment, value | {"cameras": {"head": {"source": "cam_high"}}, "control_hz": FPS}, "aloha")


def motion(number: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """State and action, float32 (frames, 14): the arms swing, each action is a little ahead of what follows."""
    phase = np.random.default_rng(number).uniform(0, 6, 14)
    rows = 0.15 * np.sin(phase + np.arange(frames + 1)[:, None] / 9)
    for column, closes in ((6, LEFT), (13, RIGHT)):
        rows[:, column] = np.arange(frames + 1) <= closes
    action = 1.01 * rows[1:]
    action[:, [6, 13]] = rows[1:, [6, 13]]
    return rows[:-1].astype(np.float32), action.astype(np.float32)


def make_dataset(folder: Path) -> Path:
    make_v21(folder, video=False)
    names = [channel.name for channel in aloha().state]
    vector = {"dtype": "float32", "shape": [14], "names": {"motors": names}}
    image = {"dtype": "image", "shape": [32, 48, 3], "names": None}
    edit_info(folder, features={"observation.state": vector, "action": vector, CAMERA: image}, robot_type="aloha")
    for number, frames in enumerate(LENGTHS):
        for name, rows in zip(("observation.state", "action"), motion(number, frames), strict=True):
            values = pa.array(rows.tolist(), pa.list_(pa.float32()))
            change_table(folder, number, lambda table, name=name, values=values: with_column(table, name, values))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    folder = tmp_path_factory.mktemp("arms")
    (folder / "calibration.yaml").write_text(yaml_text(CALIBRATION), encoding="utf-8")
    embodiment = aloha()
    reader = reader_of(
        make_dataset(folder / "dataset"),
        embodiment=embodiment,
        calibration=load_calibration(folder / "calibration.yaml", ["head"], embodiment.end_effectors),
        kinematics=ForwardKinematics(embodiment, FOLDER),
    )
    store = EpisodeStore(folder / "store")
    assert ingest(store, reader).kept == []
    return store


@pytest.fixture(scope="module")
def data(store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "data"
    prepare(store.root, validate(store.root), aloha(), small(), out)
    return out


def small() -> PrepareParams:
    return PrepareParams(image_size=32, validation_fraction=0)


def seen(positions: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of positions (..., 3) for the camera of these tests."""
    depth = HEIGHT - positions[..., 2]
    return np.stack([24 + FOCAL * positions[..., 0] / depth, 16 - FOCAL * (positions[..., 1] - 0.5) / depth], axis=-1)


def test_the_task_s_label_is_where_the_arm_that_acts_will_be(store: EpisodeStore) -> None:
    source = source_model("gym_aloha/assets/bimanual_viperx_transfer_cube.xml")
    episodes = list(store.episodes())
    assert len(episodes) == len(LENGTHS)
    for episode in episodes:
        names = [channel.name for channel in aloha().state]
        arms = {n: episode.state[:, i].astype(np.float64) for i, n in enumerate(names) if not n.endswith("gripper")}
        joints = {f"vx300s_{name.replace('_', '/', 1)}": values for name, values in arms.items()}
        left, right = (
            source_poses(source, joints, "site", f"cali_{arm}_site1", "world")[:, :3] for arm in ("left", "right")
        )
        # Actions are a frame ahead of the state.
        events, acting = acting_grippers(episode, aloha())
        assert (events.tolist(), acting.tolist()) == ([LEFT, RIGHT], [0, 1])
        task = np.where(np.arange(len(episode))[:, None] <= LEFT, left[LEFT], right[RIGHT])
        labels = anchor_labels(episode, aloha())["head"]
        assert labels.valid.all()
        expected = np.stack([seen(task), seen(left), seen(right)], axis=1)
        np.testing.assert_allclose(labels.points, expected, atol=1e-3)


def test_what_the_rules_and_the_page_say_of_two_arms(store: EpisodeStore) -> None:
    report = validate(store.root)
    assert not {finding.rule for finding in report.findings} & {"target-in-view", "gripper-event", "undeclared"}
    page = page_of(next(store.episodes()), aloha(), "arms")
    assert f"frame {LEFT} (left), frame {RIGHT} (right)" in page
    assert "left end-effector anchor" in page
    assert "right end-effector anchor" in page


def test_an_episode_of_two_arms_is_stored_as_it_was_read(store: EpisodeStore) -> None:
    (batch,) = store.batches()
    reader = DatasetReader(store.folder(batch))
    for record in reader.records:
        episode = reader.episode(record)
        assert episode.end_effector is not None
        assert episode.end_effector.shape == (len(episode), 2, 7)
        assert episode_digest(episode) == record.extra.digest
    info = read_json(store.folder(batch) / "meta/info.json")["features"]["observation.end_effector"]
    assert info["shape"] == [14]
    assert [info["names"][0], info["names"][7]] == ["left.x", "right.x"]
    assert read_json(store.folder(batch) / "meta/posa.json")["schema_version"] == 3


def test_openings_of_two_grippers_and_the_pixel_of_one_come_back(tmp_path: Path, store: EpisodeStore) -> None:
    episode = next(store.episodes())
    images = np.asarray([np.asarray(image) for image in episode.cameras["head"].images])
    # Of a camera on the right hand, where it sees its own gripper.
    pixel = np.tile([UNSEEN, (20.5, 11.0)], (len(episode), 1, 1))
    cameras = {"head": CameraTrack(images, end_effector_pixel=pixel)}
    gripper = np.random.default_rng(0).uniform(0, 1, (len(episode), 2)).astype(np.float32)
    other = EpisodeStore(tmp_path / "store")
    other.append([replace(episode, cameras=cameras, gripper=gripper)], aloha())
    (back,) = other.episodes()
    assert back.gripper is not None
    np.testing.assert_array_equal(back.gripper, gripper)
    np.testing.assert_array_equal(back.cameras["head"].end_effector_pixel, pixel)
    labels = anchor_labels(back, aloha())["head"]
    assert labels.valid.tolist() == [[False, False, True]] * len(episode)
    assert labels.points[:, 2].tolist() == [[20.5, 11.0]] * len(episode)
    with pytest.raises(BadInput, match=r"gripper is .*, expected float32"):
        replace(episode, gripper=gripper[:, 0]).check()


@pytest.mark.parametrize(("channels", "maps"), [("both", 3), ("task", 1)])
def test_a_policy_of_two_arms_trains_and_acts(
    data: Path, tmp_path: Path, store: EpisodeStore, channels: str, maps: int
) -> None:
    assert read_manifest(data).end_effectors == ["left", "right"]
    assert PackedDataset(data, "train", 8).sample(torch.arange(2)).anchor_points["head"].shape == (2, 3, 2)
    params = quick_params(steps=4, anchor_only_steps=1)
    params = params.model_copy(update={"model": params.model.model_copy(update={"channels": channels})})
    folder = train(data, params, tmp_path / "out")
    policy = load_policy(folder, "d")
    assert policy.config.channels == ("task", "left", "right")[:maps]
    episode: Episode = next(store.episodes())
    chunk = explain_episode(policy, episode, ["head"], 32)
    attention = chunk.attention["head"][0]
    assert attention.shape == (maps, 8, 8)
    assert overlay(chunk.images["head"][0], attention).shape == (32, 32, 3)
    observation = Observation({"head": chunk.images["head"][0]}, episode.state[0], episode.instruction)
    actions = policy.act([observation]).actions
    assert actions.shape == (1, 8, 14)
    assert np.isfinite(actions).all()
    with pytest.raises(BadInput, match=r"state is float32 \(7,\), expected float32 \(14,\)"):
        policy.act([Observation(observation.images, episode.state[0, :7], "pick")])


def test_files_of_one_arm_and_of_two_are_no_policy(data: Path, tmp_path: Path) -> None:
    folder = train(data, quick_params(steps=1, anchor_only_steps=1), tmp_path / "out")
    value: dict[str, Any] = read_json(folder / "embodiment.json")
    rule = value["kinematics"].pop("end_effectors")["left"]["gripper"]
    value["kinematics"]["site"] = "cali_left_site1"
    write_json(folder / "embodiment.json", value | {"gripper": rule})
    with pytest.raises(BadInput, match=r"has the end effectors one, config.json left, right"):
        load_policy(folder, "d")


def test_an_event_belongs_to_the_arm_that_acts_and_stands() -> None:
    frames = 60
    state = np.zeros((frames, 14), np.float32)
    state[:, 7] = np.linspace(0, 1, frames)  # the right arm turns all the while
    state[:, 6], state[:, 13] = np.arange(frames) < 20, np.arange(frames) < 40
    images = np.zeros((frames, 32, 48, 3), np.uint8)
    images[22:, 10:14, 20:24] = 255
    images[42:, 20:24, 30:34] = 255
    poses = ForwardKinematics(aloha(), FOLDER).poses(state)
    episode = Episode("aloha", "", "teleop", True, FPS, {"head": CameraTrack(images)}, state, state, poses)
    (change,), _ = gripper_changes(episode, aloha(), "head")
    assert change.frame == 20
    np.testing.assert_array_equal(change.pose, poses[20, 0])


def test_a_camera_on_a_hand_says_which(tmp_path: Path) -> None:
    mount: dict[str, Any] = {
        "intrinsics": CALIBRATION["cameras"]["head"]["intrinsics"],  # type: ignore[index]  # a literal above
        "end_effector_from_camera": {"position": [0, 0, -0.1], "quaternion": [1, 0, 0, 0]},
    }
    pixel = {"end_effector_pixel": {"u": 20.5, "v": 11, "width": 48, "height": 32}}
    path = tmp_path / "calibration.yaml"
    for said, ends, message in (
        ({}, ("left", "right"), "has no end_effector, expected which hand it is on: left, right"),
        ({"end_effector": "lefty"}, ("left", "right"), "no end effector 'lefty'; did you mean 'left'"),
        ({"end_effector": "left"}, (), "of a robot that has one, expected none"),
    ):
        for camera in (mount, pixel):
            path.write_text(yaml_text({"schema_version": 1, "cameras": {"head": camera | said}}), encoding="utf-8")
            with pytest.raises(BadInput, match=message):
                load_calibration(path, ["head"], ends)
    path.write_text(yaml_text({"cameras": {"head": pixel | {"end_effector": "right"}}}), encoding="utf-8")
    camera = load_calibration(path, ["head"], ("left", "right")).cameras["head"]
    track = calibrate(np.zeros((2, 64, 96, 3), np.uint8), camera, None, ("left", "right"))
    assert track.end_effector_pixel is not None
    assert track.end_effector_pixel.tolist() == [[list(UNSEEN), [41.0, 22.0]]] * 2
