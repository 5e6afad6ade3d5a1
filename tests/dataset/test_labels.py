from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posa_vla.dataset.labels import anchor_labels, crossings, gripper_events
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack
from posa_vla.geometry import packed_covariance
from posa_vla.schema import parse

EMBODIMENT = make_embodiment()


def without_gripper_channel() -> Embodiment:
    declared = EMBODIMENT.model_dump()
    declared["action"][1]["name"] = "fingers"
    return parse(Embodiment, declared, "test")


def random_cameras(rng: np.random.Generator, frames: int):
    """Homogeneous projection matrices (frames, 3, 4) beside the poses and intrinsics that they are made of."""
    rotations = Rotation.random(frames, random_state=int(rng.integers(2**31)))
    positions = rng.normal(0, 0.5, (frames, 3))
    intrinsics = np.stack(
        [rng.uniform(30, 90, frames), rng.uniform(30, 90, frames), *rng.uniform(10, 50, (2, frames))], axis=1
    )
    matrices = np.zeros((frames, 3, 4))
    for t in range(frames):
        fx, fy, cx, cy = intrinsics[t]
        inverse = rotations[t].as_matrix().T
        extrinsic = np.concatenate([inverse, -inverse @ positions[t][:, None]], axis=1)
        matrices[t] = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ extrinsic
    x, y, z, w = rotations.as_quat().T
    return matrices, np.concatenate([positions, np.stack([w, x, y, z], axis=1)], axis=1), intrinsics


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.data())
def test_a_label_is_the_true_projection_within_half_a_pixel(seed, frames, data):
    rng = np.random.default_rng(seed)
    close_at = data.draw(st.integers(1, frames - 1))
    matrices, poses, intrinsics = random_cameras(rng, frames)
    episode = make_episode(rng, frames=frames, size=64, cameras=("head",), close_at=close_at)
    assert episode.end_effector is not None
    images = episode.cameras["head"].images
    episode = replace(episode, cameras={"head": CameraTrack(images, intrinsics, poses)})
    labels = anchor_labels(episode, make_embodiment(cameras=("head",)))["head"]
    for t in range(frames):
        for channel, point in ((0, episode.end_effector[close_at, :3]), (1, episode.end_effector[t, :3])):
            x, y, depth = matrices[t] @ np.append(point, 1)
            inside = depth > 1e-6 and 0 <= x / depth < 64 and 0 <= y / depth < 64
            assert labels.valid[t, channel] == inside
            if inside:
                assert np.abs(labels.points[t, channel] - [x / depth, y / depth]).max() < 0.5


def test_the_task_anchor_is_the_next_event_and_then_the_last_one():
    episode = make_episode(np.random.default_rng(0), frames=10, close_at=3, cameras=("head",))
    action = episode.action.copy()
    action[7:, 1] = 1
    episode = replace(episode, action=action)
    events = gripper_events(episode, EMBODIMENT)
    assert events.tolist() == [3, 7]
    labels = anchor_labels(episode, EMBODIMENT)["head"]
    # A fixed camera: the end-effector anchor of the event's frame is where the task anchor must be.
    following = [3, 3, 3, 3, 7, 7, 7, 7, 7, 7]
    np.testing.assert_allclose(labels.points[:, 0], labels.points[following, 1])


def test_noise_around_one_threshold_is_no_event():
    opening = np.array([1, 0.55, 0.45, 0.55, 0.45, 0.3, 0.5, 0.59, 0.41, 0.7])
    assert crossings(opening).tolist() == [5, 9]


@pytest.mark.parametrize("opening", [[], [0.5, 0.5], [1, 1, 1], [0, 0.5, 0.5]])
def test_a_gripper_that_keeps_its_state_has_no_event(opening):
    assert crossings(np.array(opening)).tolist() == []


def test_the_command_decides_where_there_is_one():
    episode = make_episode(np.random.default_rng(0), frames=10, close_at=4)
    assert episode.gripper is not None
    # Fingers that stop on a thick object.
    episode = replace(episode, gripper=np.maximum(episode.gripper, 0.7))
    assert gripper_events(episode, EMBODIMENT).tolist() == [4]


def test_without_a_commanded_channel_the_measured_opening_decides_relative_to_its_range():
    episode = make_episode(np.random.default_rng(0), frames=10, close_at=4)
    assert episode.gripper is not None
    thick = np.where(np.arange(10) < 5, 1.0, 0.7).astype(np.float32)
    assert gripper_events(replace(episode, gripper=thick), without_gripper_channel()).tolist() == [5]
    still = (0.9 + 0.05 * np.sin(np.arange(10))).astype(np.float32)
    assert gripper_events(replace(episode, gripper=still), without_gripper_channel()).tolist() == []
    assert gripper_events(replace(episode, gripper=None), without_gripper_channel()).tolist() == []


def test_the_command_is_scaled_by_its_limits():
    declared = EMBODIMENT.model_dump()
    declared["action"][1] |= {"low": 0, "high": 0.08, "unit": "m"}
    episode = make_episode(np.random.default_rng(0), frames=10, close_at=4)
    action = episode.action * np.array([1, 0.08], np.float32)
    assert gripper_events(replace(episode, action=action), parse(Embodiment, declared, "test")).tolist() == [4]


def test_without_an_event_only_the_end_effector_is_labelled():
    labels = anchor_labels(make_episode(np.random.default_rng(0), close_at=None), EMBODIMENT)["head"]
    assert not labels.valid[:, 0].any()
    assert labels.valid[:, 1].all()


def test_without_calibration_there_is_no_label_and_no_nan():
    for label in anchor_labels(make_episode(np.random.default_rng(0), calibrated=False), EMBODIMENT).values():
        assert not label.valid.any()
        assert np.isfinite(label.points).all()


def test_points_that_are_not_valid_are_finite():
    episode = make_episode(np.random.default_rng(0), cameras=("head",))
    camera = episode.cameras["head"]
    assert camera.pose is not None
    behind = camera.pose * np.array([1, 1, -1, 1, 1, 1, 1])
    episode = replace(episode, cameras={"head": replace(camera, pose=behind)})
    labels = anchor_labels(episode, EMBODIMENT)["head"]
    assert not labels.valid.any()
    assert np.isfinite(labels.points).all()


def test_of_a_camera_on_the_hand_without_a_pose_the_end_effector_s_pixel_is_the_label_and_the_task_is_masked():
    episode = make_episode(np.random.default_rng(0), frames=4, size=64, cameras=("wrist",))
    images = episode.cameras["wrist"].images
    pixel = np.tile([31.5, 40.25], (4, 1))
    seen = replace(episode, cameras={"wrist": CameraTrack(images, end_effector_pixel=pixel)})
    labels = anchor_labels(seen, make_embodiment(cameras=("wrist",)))["wrist"]
    assert labels.valid.tolist() == [[False, True]] * 4
    assert labels.points[:, 1].tolist() == [[31.5, 40.25]] * 4
    assert not labels.points[:, 0].any()
    outside = replace(episode, cameras={"wrist": CameraTrack(images, end_effector_pixel=pixel + np.array([0.0, 30.0]))})
    assert not anchor_labels(outside, make_embodiment(cameras=("wrist",)))["wrist"].valid.any()


def test_a_label_is_masked_where_the_camera_is_less_sure_than_the_label_is_wide() -> None:
    episode = make_episode(np.random.default_rng(0))
    camera = episode.cameras["head"]
    # A turn about its axes by one standard deviation of 0.1 rad is 3.2 px and more of 32.
    turn = packed_covariance(np.diag([0.01, 0.01, 0.01, 0, 0, 0, 0]))
    cameras = {**episode.cameras, "head": replace(camera, covariance=np.tile(turn, (len(episode), 1)))}
    unsure = replace(episode, cameras=cameras)
    unsure.check()
    sure = anchor_labels(episode, EMBODIMENT, (0.2, 0.2))
    assert sure["head"].valid.all()
    for widths, valid in (((0.2, 0.05), [True, False]), ((0.05, 0.2), [False, True])):
        labels = anchor_labels(unsure, EMBODIMENT, widths)
        assert labels["head"].valid.all(axis=0).tolist() == labels["head"].valid.any(axis=0).tolist() == valid
        assert (labels["head"].points[~labels["head"].valid] == 0).all()
        assert labels["wrist"].valid.tolist() == sure["wrist"].valid.tolist()
    assert anchor_labels(unsure, EMBODIMENT)["head"].valid.all(), "drawn for people, it is drawn"
