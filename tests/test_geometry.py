from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posa_vla.geometry import (
    compose,
    invert,
    matrix_to_quaternion,
    packed_covariance,
    project,
    projection_spread,
    quaternion_to_matrix,
    unpacked_covariance,
)

numbers = st.floats(-1, 1, allow_subnormal=False)
quaternions = (
    st.tuples(numbers, numbers, numbers, numbers).map(np.array).filter(lambda q: bool(np.linalg.norm(q) > 1e-3))
)

LOOKING_ALONG_Z = np.array([0.0, 0, 0, 1, 0, 0, 0])
CAMERA = np.array([50.0, 60, 32, 24])


@given(quaternions)
def test_matrix_of_a_quaternion_is_the_rotation_that_scipy_knows(quaternion):
    w, x, y, z = quaternion
    np.testing.assert_allclose(
        quaternion_to_matrix(quaternion), Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-12
    )


@given(quaternions)
def test_quaternion_comes_back_from_its_matrix_up_to_sign(quaternion):
    back = matrix_to_quaternion(quaternion_to_matrix(quaternion))
    unit = quaternion / np.linalg.norm(quaternion)
    assert back[0] >= 0
    assert abs(abs(back @ unit) - 1) < 1e-9


def test_batches_of_quaternions_are_converted_one_by_one():
    batch = np.random.default_rng(0).normal(size=(2, 5, 4))
    matrices = quaternion_to_matrix(batch)
    assert matrices.shape == (2, 5, 3, 3)
    np.testing.assert_allclose(matrices[1, 3], quaternion_to_matrix(batch[1, 3]))


def test_a_point_on_the_optical_axis_falls_on_the_principal_point():
    seen = project(np.array([0.0, 0, 2]), CAMERA, LOOKING_ALONG_Z, 64, 48)
    np.testing.assert_allclose(seen.pixels, [32, 24])
    assert seen.visible


def test_right_and_down_in_the_camera_are_right_and_down_in_the_image():
    u, v = project(np.array([0.1, 0.2, 1]), CAMERA, LOOKING_ALONG_Z, 64, 48).pixels
    assert (u, v) == pytest.approx((32 + 5, 24 + 12))


@pytest.mark.parametrize("depth", [0.0, -1e-9, -2.0])
def test_a_point_behind_the_camera_has_no_pixel_and_is_not_visible(depth):
    seen = project(np.array([0.0, 0, depth]), CAMERA, LOOKING_ALONG_Z, 64, 48)
    assert np.isnan(seen.pixels).all()
    assert not seen.visible


@pytest.mark.parametrize(
    ("u", "v", "visible"), [(0, 0, True), (63.9, 47.9, True), (64, 10, False), (10, 48, False), (-0.1, 10, False)]
)
def test_visibility_ends_at_the_image_border(u, v, visible):
    point = np.array([(u - 32) / 50, (v - 24) / 60, 1.0])
    assert bool(project(point, CAMERA, LOOKING_ALONG_Z, 64, 48).visible) is visible


def test_a_moving_camera_is_projected_with_each_frames_pose():
    poses = np.tile(LOOKING_ALONG_Z, (3, 1))
    poses[:, 0] = [0, 0.1, 0.2]
    seen = project(np.tile([0.2, 0, 1.0], (3, 1)), np.tile(CAMERA, (3, 1)), poses, 64, 48)
    np.testing.assert_allclose(seen.pixels[:, 0], [42, 37, 32])


poses = st.tuples(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
).map(lambda parts: np.concatenate([parts[0], np.array(parts[1]) / np.linalg.norm(parts[1])]))


def as_matrix(pose):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = quaternion_to_matrix(pose[3:]), pose[:3]
    return matrix


@given(poses, poses)
def test_poses_compose_as_their_matrices_do(first, second):
    np.testing.assert_allclose(as_matrix(compose(first, second)), as_matrix(first) @ as_matrix(second), atol=1e-9)


@given(poses)
def test_a_pose_and_its_inverse_cancel(pose):
    np.testing.assert_allclose(as_matrix(compose(invert(pose), pose)), np.eye(4), atol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_the_spread_of_a_projection_is_that_of_cameras_drawn_from_its_covariance(seed):
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rng.normal(size=3), rng.normal(size=4)])
    pose[3:] /= np.linalg.norm(pose[3:])
    intrinsics = np.array([500.0, 500, 320, 240])
    root = rng.normal(size=(7, 7)) * 1e-5
    point = compose(pose, np.array([*rng.uniform(-0.2, 0.2, 2), 0.8, 1, 0, 0, 0]))[:3]
    drawn = rng.standard_normal((4000, 7)) @ root.T
    turns = np.concatenate([np.ones((4000, 1)), drawn[:, :3] / 2], axis=1)
    moved = compose(pose, np.concatenate([drawn[:, 3:6], turns / np.linalg.norm(turns, axis=1, keepdims=True)], axis=1))
    focal = np.tile(intrinsics, (4000, 1))
    focal[:, :2] *= np.exp(drawn[:, 6:])
    pixels = project(point, focal, moved, 640, 480).pixels
    measured = np.sqrt(np.linalg.eigvalsh(np.cov(pixels.T))[-1])
    covariance = root @ root.T
    assert np.array_equal(unpacked_covariance(packed_covariance(covariance)), covariance)
    assert projection_spread(point, intrinsics, pose, covariance) == pytest.approx(measured, rel=0.1)


def test_a_point_behind_the_camera_is_infinitely_uncertain():
    at = np.array([0.0, 0, 0, 1, 0, 0, 0])
    spread = projection_spread(np.array([[0, 0, -1.0], [0, 0, 1]]), np.array([1.0, 1, 0, 0]), at, np.eye(7))
    assert np.isinf(spread).tolist() == [True, False]
