"""A camera from the gripper's events: how near it comes, and that it says so where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.dataset.calibration.fit import CameraFit, Problem, change_points, fit_camera, slopes_of
from posa_vla.geometry import matrix_to_quaternion, project

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class Seen:
    """What a camera saw of a gripper, and the camera."""

    poses: np.ndarray
    pixels: np.ndarray
    reach: np.ndarray
    truth: np.ndarray

    def fit(self, **known: float) -> CameraFit:
        return fit_camera(self.poses, self.pixels[:, None], self.reach, width=WIDTH, height=HEIGHT, **known)

    def errors(self, camera: CameraFit) -> np.ndarray:
        """Shares of the longer side, of the points in view."""
        apart = np.linalg.norm(camera.pixels(self.reach) - self.truth, axis=1)
        return apart[np.isfinite(self.truth[:, 0])] / WIDTH


def seen_by(seed: int, events: int = 50, *, strangers: float = 0.2, flat: bool = False, line: bool = False) -> Seen:
    """A random camera, events within an arm's reach, a share of the changes anywhere."""
    draw = np.random.default_rng(seed)
    focal = WIDTH * np.exp(draw.normal(np.log(0.85), 0.2))
    azimuth, elevation, distance = draw.uniform(-np.pi, np.pi), draw.uniform(0.3, 1.3), draw.uniform(0.5, 1.2)
    middle = np.array([0.25, 0, 0.05])
    outward = [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    place = middle + distance * np.array(outward)
    forward = middle + draw.normal(0, 0.03, 3) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    camera = np.concatenate([place, matrix_to_quaternion(rotation)])
    intrinsics = np.array([focal, focal, WIDTH / 2, HEIGHT / 2])
    heights = np.full(events, 0.02) if flat else draw.choice([0.02, 0.06, 0.1], events)
    points = np.stack([draw.uniform(0.15, 0.35, events), draw.uniform(-0.15, 0.15, events), heights], axis=1)
    angles = np.stack(
        [draw.uniform(-1, 1, events), draw.normal(0, 0.3, events), np.pi + draw.normal(0, 0.15, events)], axis=1
    )
    if line:
        points[:, 1:], angles[:] = (0.0, 0.02), (0.0, 0.0, np.pi)
    poses = np.concatenate([points, Rotation.from_euler("zyx", angles).as_quat()[:, [3, 0, 1, 2]]], axis=1)
    changes = project(change_points(poses, draw.normal(0, 0.008, 3)), intrinsics, camera, WIDTH, HEIGHT)
    pixels = changes.pixels + draw.normal(0, 3.0, (events, 2))
    strange = draw.random(events) < strangers
    pixels[strange] = draw.uniform(0, 1, (strange.sum(), 2)) * [WIDTH, HEIGHT]
    reach = np.stack([draw.uniform(0.12, 0.38, 300), draw.uniform(-0.18, 0.18, 300), draw.uniform(0, 0.2, 300)], axis=1)
    truth = project(reach, intrinsics, camera, WIDTH, HEIGHT)
    shown = changes.visible
    return Seen(poses[shown], pixels[shown], reach, np.where(truth.visible[:, None], truth.pixels, np.nan))


@pytest.mark.parametrize(("seed", "flat"), [(10, False), (11, True), (12, False)])
def test_a_camera_is_found_among_the_changes_of_other_things_and_says_how_sure_it_is(seed: int, flat: bool) -> None:
    seen = seen_by(seed, flat=flat)
    camera = seen.fit()
    errors, sure = seen.errors(camera), camera.uncertainty(seen.reach) / WIDTH
    assert camera.other is None
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.9) < 0.03
    assert np.quantile(sure, 0.9) < 0.03
    assert np.quantile(errors / sure[np.isfinite(seen.truth[:, 0])], 0.9) < 4


def test_a_known_focal_length_is_kept() -> None:
    seen = seen_by(13)
    camera = seen.fit(focal=500.0)
    assert camera.intrinsics[0] == pytest.approx(500, rel=0.01)


def test_changes_that_are_mostly_other_things_announce_themselves() -> None:
    seen = seen_by(14, strangers=0.8)
    camera = seen.fit()
    assert np.median(camera.uncertainty(seen.reach)) / WIDTH > 0.03


def test_a_mirrored_picture_puts_the_camera_below_the_table() -> None:
    seen = seen_by(15, strangers=0.0)
    mirrored = Seen(seen.poses, np.array([WIDTH, 0]) + np.array([-1, 1]) * seen.pixels, seen.reach, seen.truth)
    assert not seen.fit().below
    assert mirrored.fit().below


def test_events_on_a_line_leave_what_is_beside_it_uncertain() -> None:
    line = seen_by(16, strangers=0.0, line=True)
    camera = line.fit()
    assert camera.other is not None or np.median(camera.uncertainty(line.reach)) / WIDTH > 0.03


@pytest.mark.parametrize("seed", [17, 18])
def test_derivatives_are_those_of_the_residuals(seed: int) -> None:
    seen = seen_by(seed, events=12)
    problem = Problem(seen.poses, seen.pixels[:, None], WIDTH, HEIGHT, None, None)
    chosen = np.arange(len(seen.poses)) % 3 > 0
    for start in list(problem.starts())[::29]:
        at = start + np.random.default_rng(seed).normal(0, 0.01, 10)
        expected = slopes_of(lambda p: problem.residuals(p, 5.0, chosen), at)
        np.testing.assert_allclose(problem.slopes(at, 5.0, chosen), expected, atol=1e-5)
