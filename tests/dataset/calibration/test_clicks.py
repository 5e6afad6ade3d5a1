"""A camera from ten clicks, one of them wrong; and why there is none, in words."""

from __future__ import annotations

import numpy as np
import pytest
from dataset.calibration.test_fit import HEIGHT, WIDTH, Seen, seen_by
from scipy.spatial.transform import Rotation

from posa_vla.dataset.calibration.clicks import ClickedCamera, camera_from_clicks
from posa_vla.dataset.calibration.frames import Candidates
from posa_vla.dataset.calibration.three_points import cameras_of_three


def clicked(seed: int, count: int = 10, noise: float = 3.0) -> tuple[Seen, np.ndarray, np.ndarray]:
    """A random camera, and clicks on points that are spread over its view: the points, and the pixels."""
    seen, draw = seen_by(seed), np.random.default_rng(seed)
    shown = np.flatnonzero(np.isfinite(seen.truth[:, 0]))
    none = np.zeros(len(shown), np.int64)
    pool = Candidates(none, shown, none, seen.reach[shown])
    chosen = [spot.frame for spot in pool.spread(count)]
    return seen, seen.reach[chosen], seen.truth[chosen] + draw.normal(0, noise, (len(chosen), 2))


def find(points: np.ndarray, pixels: np.ndarray, reach: np.ndarray | None = None, **options: bool) -> ClickedCamera:
    return camera_from_clicks(points, pixels, reach, width=WIDTH, height=HEIGHT, **options)


def test_three_points_are_seen_by_the_camera_that_sees_them() -> None:
    draw = np.random.default_rng(0)
    turn, place = Rotation.random(20, random_state=1).as_matrix(), draw.normal(0, 1, (20, 3))
    local = draw.normal(0, 0.2, (20, 3, 3)) + np.array([0, 0, 1.5])
    points = np.einsum("mij,mkj->mki", turn, local) + place[:, None]
    rotations, positions = cameras_of_three(points, local / np.linalg.norm(local, axis=2, keepdims=True))
    apart = np.linalg.norm(positions - place[:, None], axis=2) + np.abs(rotations - turn[:, None]).max((2, 3))
    assert np.nanmin(apart, axis=1).max() < 1e-4


def test_points_on_a_line_give_no_camera_of_three() -> None:
    points = np.array([[[0.0, 0, 1], [0.1, 0, 1], [0.2, 0, 1]]])
    rotations, _ = cameras_of_three(points, points / np.linalg.norm(points, axis=2, keepdims=True))
    assert np.isnan(rotations).any((2, 3)).all()


@pytest.mark.parametrize("seed", range(40, 44))
def test_ten_clicks_with_one_of_them_wrong_give_the_camera_and_name_the_wrong_one(seed: int) -> None:
    seen, points, pixels = clicked(seed)
    wrong = seed % 10
    pixels[wrong] += [60, -45]
    found = find(points, pixels, seen.reach)
    assert found.reasons == []
    assert wrong in found.rejected
    assert len(found.rejected) <= 2
    assert found.misses[wrong] == pytest.approx(75, abs=20)
    assert found.camera is not None
    assert found.error is not None
    assert found.error < 8
    errors, sure = seen.errors(found.camera), found.camera.uncertainty(seen.reach) / WIDTH
    assert np.median(errors) < 0.01
    assert np.quantile(errors / sure[np.isfinite(seen.truth[:, 0])], 0.9) < 4


def test_a_known_focal_length_is_kept_and_six_clicks_are_enough() -> None:
    seen, points, pixels = clicked(50, count=6, noise=1.0)
    free = find(points, pixels, seen.reach)
    assert free.camera is not None
    known = camera_from_clicks(points, pixels, seen.reach, width=WIDTH, height=HEIGHT, focal=500.0)
    assert known.camera is not None
    assert known.camera.intrinsics[0] == pytest.approx(500, rel=0.01)


def test_a_camera_on_the_hand_is_found_in_the_hand_s_frame_wherever_it_is() -> None:
    draw = np.random.default_rng(3)
    turn, place, focal = Rotation.from_euler("xyz", [0.5, -0.2, 2.0]), np.array([0.0, -0.06, 0.05]), 420.0
    local = np.column_stack([draw.uniform(-0.1, 0.1, (11, 2)), draw.uniform(0.12, 0.35, 11)])
    pixels = focal * local[:, :2] / local[:, 2:] + [320, 240] + draw.normal(0, 2, (11, 2))
    pixels[4] = 30, 400
    found = find(turn.apply(local) + place, pixels, fixed=False)
    assert found.reasons == []
    assert found.rejected == [4]
    assert found.camera is not None
    np.testing.assert_allclose(found.camera.pose[:3], place, atol=0.01)
    assert found.camera.intrinsics[0] == pytest.approx(focal, rel=0.05)


def test_too_few_clicks_say_how_many_are_missing() -> None:
    _, points, pixels = clicked(51, count=4)
    assert find(points, pixels).reasons == ["4 clicks, 6 are needed at least: click in 2 more frames"]
    assert find(points[:1], pixels[:1]).reasons == ["1 click, 6 are needed at least: click in 5 more frames"]


def test_what_stands_was_clicked_or_the_camera_is_on_the_hand() -> None:
    _, points, pixels = clicked(52)
    (reason,) = find(points, np.full_like(pixels, 200.0) + np.arange(10)[:, None] % 3).reasons
    assert "one place" in reason
    assert "--on-hand" in reason


def test_clicks_anywhere_are_refused() -> None:
    _, points, pixels = clicked(53)
    anywhere = np.random.default_rng(0).uniform(0, 1, pixels.shape) * [WIDTH, HEIGHT]
    (reason,) = find(points, anywhere).reasons
    assert "clicks fit one camera" in reason
    assert "between the finger tips" in reason


def test_a_mirrored_picture_is_refused() -> None:
    _, points, pixels = clicked(54, noise=1.0)
    assert find(points, pixels).reasons == []
    assert find(points, np.array([WIDTH, 0]) + np.array([-1, 1]) * pixels).reasons


def test_clicks_on_a_line_leave_what_is_beside_it_uncertain() -> None:
    seen = seen_by(16, strangers=0.0, line=True)
    found = find(seen.poses[:10, :3], seen.pixels[:10], seen.reach)
    assert found.reasons
