"""Frames of a dataset to click in: the grippers are spread over space in them, and move slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Spot(NamedTuple):
    """One gripper in one frame.

    Attributes:
        episode: Number of the episode.
        frame: Number of the frame in it.
        end: Number of the end effector, 0 of a lone one.
    """

    episode: int
    frame: int
    end: int = 0


@dataclass(frozen=True)
class Motion:
    """An episode's end effectors.

    Attributes:
        poses: float64 (T, E, 7), position (m) and quaternion `wxyz`, base frame.
        events: int64 (N,), frames at which a gripper starts to open or close, in order.
        acting: int64 (N,), number of the end effector whose gripper it is.
        fps: Frames a second.
    """

    poses: Floats
    events: NDArray[np.int64]
    acting: NDArray[np.int64]
    fps: float

    def events_of(self, end: int) -> NDArray[np.int64]:
        """Frames at which the gripper of one end effector starts to open or close."""
        events: NDArray[np.int64] = self.events[self.acting == end]
        return events

    def place_seen_from(self, frames: NDArray[np.int64], end: int, hand: int | None = None) -> Floats:
        """Where a gripper opens or closes next, seen from an end effector's frame: float64 (N, 3), m.

        Args:
            frames: int64 (N,), none after the gripper's last event.
            end: Number of the end effector whose gripper it is.
            hand: Number of the end effector that it is seen from; the same if None.
        """
        events = self.events_of(end)
        following = events[np.searchsorted(events, frames)]
        seen: Floats = compose(invert(self.poses[frames, end if hand is None else hand]), self.poses[following, end])
        return seen[:, :3]


@dataclass(frozen=True)
class Candidates:
    """Frames that may be clicked in.

    Attributes:
        episodes: int64 (N,) numbers of the episodes.
        frames: int64 (N,) numbers of the frames in them.
        ends: int64 (N,) numbers of the end effectors.
        points: float64 (N, 3), m, of what is clicked: in the frame in which the camera stands.
    """

    episodes: NDArray[np.int64]
    frames: NDArray[np.int64]
    ends: NDArray[np.int64]
    points: Floats

    def __len__(self) -> int:
        return len(self.points)

    def _spot(self, number: int) -> Spot:
        return Spot(int(self.episodes[number]), int(self.frames[number]), int(self.ends[number]))

    def spread(self, count: int, beside: Sequence[Spot] = ()) -> list[Spot]:
        """Some of them, each as far as possible from those before it and from others.

        Args:
            count: How many; there are fewer where no candidates are left.
            beside: What to be far from: those that were clicked or skipped.
        """
        if not len(self):
            return []
        chosen: list[int] = []
        known = set(beside)
        away = np.full(len(self), np.inf)
        for number in range(len(self)):
            if self._spot(number) in known:
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
        return [self._spot(number) for number in chosen]


def tips(motions: dict[int, Motion], end: int | None = None) -> Candidates:
    """Frames in which a gripper's tip may be clicked; `points` are in the base frame.

    Args:
        motions: Number of the episode -> its end effectors.
        end: Number of the end effector; all of them if None.
    """
    paths = {
        (number, arm): motion.poses[:, arm, :3]
        for number, motion in motions.items()
        for arm in (range(motion.poses.shape[1]) if end is None else [end])
    }
    if not paths:
        return _candidates([])
    speeds = {
        (number, arm): np.linalg.norm(np.gradient(path, axis=0), axis=1) * motions[number].fps
        if len(path) > 1
        else np.zeros(1)
        for (number, arm), path in paths.items()
    }
    limit = max(_SLOW, float(np.quantile(np.concatenate(list(speeds.values())), _SHARE)))
    slow = {which: np.flatnonzero(speed <= limit) for which, speed in speeds.items()}
    return _candidates([(*which, frames, paths[which][frames]) for which, frames in slow.items()])


def places(motions: dict[int, Motion], end: int = 0) -> Candidates:
    """Frames from which the place where a gripper first closes or opens may be seen; `points` are its hand's frame.

    Args:
        motions: Number of the episode -> its end effectors.
        end: Number of the end effector.
    """
    found = []
    for number, motion in motions.items():
        events = motion.events_of(end)
        if len(events):
            before = np.arange(int(events[0]))
            seen = motion.place_seen_from(before, end)
            away = np.linalg.norm(seen, axis=1)
            chosen = (away > _NEAR) & (away < _FAR)
            found.append((number, end, before[chosen], seen[chosen]))
    return _candidates(found)


def _candidates(found: list[tuple[int, int, NDArray[np.int64], Floats]]) -> Candidates:
    none = np.zeros(0, np.int64)
    whole = Candidates(
        np.concatenate([*(np.full(len(frames), number, np.int64) for number, _, frames, _ in found), none]),
        np.concatenate([*(frames for _, _, frames, _ in found), none]),
        np.concatenate([*(np.full(len(frames), end, np.int64) for _, end, frames, _ in found), none]),
        np.concatenate([*(points for _, _, _, points in found), np.zeros((0, 3))]),
    )
    every = max(1, -(-len(whole) // _COMPARED))
    return Candidates(whole.episodes[::every], whole.frames[::every], whole.ends[::every], whole.points[::every])
