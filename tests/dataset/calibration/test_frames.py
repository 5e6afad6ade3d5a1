"""Frames to click in: spread over space, slow, and others where one is skipped."""

from __future__ import annotations

import numpy as np

from posa_vla.dataset.calibration.frames import Candidates, Motion, Spot, places, tips
from posa_vla.geometry import compose


def moving(positions: np.ndarray, events: list[int] | None = None) -> Motion:
    turned = np.tile([0.5, 0.5, 0.5, 0.5], (len(positions), 1))
    acting = np.zeros(len(events or []), np.int64)
    poses = np.concatenate([positions, turned], axis=1)[:, None]
    return Motion(poses, np.array(events or [], np.int64), acting, 10.0)


def test_frames_are_spread_and_a_skipped_one_keeps_its_neighbours_away() -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(0, 0.3, 7)] * 3), axis=-1).reshape(-1, 3)
    none = np.zeros(len(grid), np.int64)
    pool = Candidates(none, np.arange(len(grid)), none, grid)
    chosen = [spot.frame for spot in pool.spread(10)]
    near = np.linalg.norm(grid[chosen][:, None] - grid[chosen][None], axis=2)
    assert near[~np.eye(10, dtype=bool)].min() > 0.14
    assert np.ptp(grid[chosen], axis=0).min() == 0.3
    ((_, instead, _),) = pool.spread(1, [Spot(0, frame) for frame in chosen])
    assert instead not in chosen
    assert np.linalg.norm(grid[instead] - grid[chosen], axis=1).min() > 0.1


def test_what_never_moves_gives_one_frame_and_nothing_gives_none() -> None:
    assert len(tips({4: moving(np.zeros((30, 3)))}).spread(10)) == 1
    assert tips({}).spread(10) == []


def test_of_two_arms_one_that_rests_is_asked_for_once_and_acts_for_itself() -> None:
    along = np.arange(50) * 0.001
    left, right = moving(np.stack([along, 0 * along, 0 * along], axis=1)), moving(np.ones((50, 3)))
    motion = Motion(np.concatenate([left.poses, right.poses], axis=1), np.array([5, 30]), np.array([1, 0]), 10.0)
    chosen = tips({0: motion}).spread(6)
    assert sorted(spot.end for spot in chosen) == [0, 0, 0, 0, 0, 1]
    assert {spot.end for spot in tips({0: motion}, 0).spread(6)} == {0}
    assert (motion.events_of(0).tolist(), motion.events_of(1).tolist()) == ([30], [5])
    np.testing.assert_allclose(np.linalg.norm(motion.place_seen_from(np.array([10]), 0)), 0.02, atol=1e-9)
    assert places({0: motion}, 1).ends.tolist() == []


def test_frames_in_which_the_arm_moves_fast_are_left_out() -> None:
    slow, fast = np.arange(20) * 0.001, 0.02 + np.arange(20) * 0.05
    along = np.concatenate([slow, fast])
    pool = tips({0: moving(np.stack([along, 0 * along, 0 * along], axis=1))})
    assert pool.frames.max() < 20


def test_a_place_is_where_the_gripper_acts_next_seen_from_the_hand() -> None:
    positions = np.column_stack([np.linspace(0, 0.5, 26), np.zeros((26, 2))])
    motion = moving(positions, [20, 24])
    pool = places({3: motion})
    assert set(pool.episodes) == {3}
    # Not where it is too near or too far, nor after the first event.
    assert pool.frames.min() == 6
    assert pool.frames.max() == 18
    for frame, point in zip(pool.frames, pool.points, strict=True):
        there = compose(motion.poses[frame, 0], np.concatenate([point, [1, 0, 0, 0]]))
        np.testing.assert_allclose(there[:3], positions[20], atol=1e-9)
    np.testing.assert_allclose(motion.place_seen_from(np.array([24]), 0), np.zeros((1, 3)), atol=1e-9)
