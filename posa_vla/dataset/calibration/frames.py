"""Frames of a dataset to click in: the gripper is spread over space in them, and moves slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posa_vla.geometry import compose, invert

Floats = NDArray[np.float64]

# Metres a second: a picture is taken some time before or after the joints are read, which shows while the arm moves.
# Where less than this share of the frames is so slow, it is the slowest share.
_SLOW, _SHARE = 0.02, 0.3
# Metres from the end-effector at which a place is clicked in a camera on the hand: nearer the fingers hide it, further
# off nobody sees what will be gripped.
_NEAR, _FAR = 0.03, 0.3
# Largest number of frames that are compared with each other.
_COMPARED = 20_000


@dataclass(frozen=True)
class Motion:
    """An episode's end-effector.

    Attributes:
        poses: float64 (T, 7), position (m) and quaternion `wxyz`, base frame.
        events: int64 (E,), frames at which the gripper starts to open or close.
        fps: Frames a second.
    """

    poses: Floats
    events: NDArray[np.int64]
    fps: float

    def place_seen_from(self, frames: NDArray[np.int64]) -> Floats:
        """Where the gripper opens or closes next, seen from the end-effector's frame: float64 (N, 3), m.

        Args:
            frames: int64 (N,), none after the last event.
        """
        following = self.events[np.searchsorted(self.events, frames)]
        seen: Floats = compose(invert(self.poses[frames]), self.poses[following])[:, :3]
        return seen


@dataclass(frozen=True)
class Candidates:
    """Frames that may be clicked in.

    Attributes:
        episodes: int64 (N,) numbers of the episodes.
        frames: int64 (N,) numbers of the frames in them.
        points: float64 (N, 3), m, of what is clicked: in the frame in which the camera stands.
    """

    episodes: NDArray[np.int64]
    frames: NDArray[np.int64]
    points: Floats

    def __len__(self) -> int:
        return len(self.points)

    def spread(self, count: int, beside: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """Some (episode, frame), each as far as possible from those before it and from others.

        Args:
            count: How many; there are fewer where no candidates are left.
            beside: Frames to be far from: those that were clicked or skipped.
        """
        if not len(self):
            return []
        chosen: list[int] = []
        known = set(beside)
        away = np.full(len(self), np.inf)
        for number in range(len(self)):
            if (int(self.episodes[number]), int(self.frames[number])) in known:
                away = np.minimum(away, np.linalg.norm(self.points - self.points[number], axis=1))
        while len(chosen) < count:
            if np.isinf(away).all():
                following = int(np.argmin(np.linalg.norm(self.points - np.median(self.points, axis=0), axis=1)))
            else:
                following = int(np.argmax(away))
            if away[following] <= 0:
                break
            chosen.append(following)
            away = np.minimum(away, np.linalg.norm(self.points - self.points[following], axis=1))
        return [(int(self.episodes[n]), int(self.frames[n])) for n in chosen]


def tips(motions: dict[int, Motion]) -> Candidates:
    """Frames in which the gripper's tip may be clicked; `points` are in the base frame.

    Args:
        motions: Number of the episode -> its end-effector.
    """
    speeds = {
        number: np.linalg.norm(np.gradient(m.poses[:, :3], axis=0), axis=1) * m.fps if len(m.poses) > 1 else np.zeros(1)
        for number, m in motions.items()
    }
    if not speeds:
        return _candidates([])
    limit = max(_SLOW, float(np.quantile(np.concatenate(list(speeds.values())), _SHARE)))
    slow = {number: np.flatnonzero(speed <= limit) for number, speed in speeds.items()}
    return _candidates([(number, frames, motions[number].poses[frames, :3]) for number, frames in slow.items()])


def places(motions: dict[int, Motion]) -> Candidates:
    """Frames from which the place where the gripper first closes or opens may be seen; `points` are the hand's frame.

    Args:
        motions: Number of the episode -> its end-effector.
    """
    found = []
    for number, motion in motions.items():
        if len(motion.events):
            before = np.arange(int(motion.events[0]))
            seen = motion.place_seen_from(before)
            away = np.linalg.norm(seen, axis=1)
            chosen = (away > _NEAR) & (away < _FAR)
            found.append((number, before[chosen], seen[chosen]))
    return _candidates(found)


def _candidates(found: list[tuple[int, NDArray[np.int64], Floats]]) -> Candidates:
    episodes = [np.full(len(frames), number, np.int64) for number, frames, _ in found]
    whole = Candidates(
        np.concatenate([*episodes, np.zeros(0, np.int64)]),
        np.concatenate([*(frames for _, frames, _ in found), np.zeros(0, np.int64)]),
        np.concatenate([*(points for _, _, points in found), np.zeros((0, 3))]),
    )
    every = max(1, -(-len(whole) // _COMPARED))
    return Candidates(whole.episodes[::every], whole.frames[::every], whole.points[::every])
