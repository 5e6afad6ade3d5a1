"""Anchor labels: where each gripper is, and where one it will next open or close, in every camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.gripper_rule import GripperRule
from posa_vla.errors import BadInput
from posa_vla.geometry import project, projection_spread, unpacked_covariance

# Hysteresis of the opening, 0 closed to 1 open: noise around one threshold makes no event.
CLOSED_BELOW = 0.4
OPEN_ABOVE = 0.6
# A measured opening that moves by less than this over an episode is a gripper that did nothing.
MOVED_AT_LEAST = 0.2


@dataclass(frozen=True)
class AnchorLabels:
    """Labels of one camera; channel 0 is the task anchor, each of the E others the anchor of an end-effector, in order.

    Attributes:
        points: float32 (T, 1 + E, 2), (u, v) in continuous pixels; zero where not valid.
        valid: bool (T, 1 + E).
        spread: float32 (T, 1 + E), one standard deviation (pixels) of points that a camera was found for; zero where it
            was measured.
    """

    points: NDArray[np.float32]
    valid: NDArray[np.bool_]
    spread: NDArray[np.float32]


def crossings(opening: NDArray[Any], low: float = CLOSED_BELOW, high: float = OPEN_ABOVE) -> NDArray[np.int64]:
    """Frames at which a signal goes from above `high` to below `low` or back; between the two it keeps its state."""
    signal = np.asarray(opening, np.float64)
    state = np.where(signal > high, 1, np.where(signal < low, -1, 0))
    decided = np.flatnonzero(state)
    flips: NDArray[np.int64] = decided[1:][np.diff(state[decided]) != 0].astype(np.int64)
    return flips


def gripper_events(episode: Episode, embodiment: Embodiment) -> NDArray[np.int64]:
    """Frames at which a gripper starts to open or close, in order; see `acting_grippers`."""
    return acting_grippers(episode, embodiment)[0]


def acting_grippers(episode: Episode, embodiment: Embodiment) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames at which a gripper starts to open or close, in order, and the end effector whose gripper it is.

    Of several end effectors each has its rule. The embodiment's rule decides where it has one. Else the commanded
    opening, where the action has a channel `gripper` with limits: a gripper that closes on a thick object may never
    measure below the threshold, its command does. Else it is the measured opening, scaled by its range within the
    episode.
    """
    count = len(embodiment.end_effectors) or 1
    if episode.poses is not None and episode.poses.shape[1] != count:
        raise BadInput(
            f"the episode has poses of {episode.poses.shape[1]} end effectors, expected {count}, as embodiment "
            f"{embodiment.id} declares now: take it out and in again, or give the changed robot an id of its own"
        )
    rules = embodiment.gripper_rules
    events = [_by_rule(episode, embodiment, rule) for rule in rules] if rules else [_without_rule(episode, embodiment)]
    frames = np.concatenate(events)
    acting = np.repeat(np.arange(len(events)), [len(each) for each in events])
    order = np.argsort(frames, kind="stable")
    return frames[order], acting[order]


def _by_rule(episode: Episode, embodiment: Embodiment, rule: GripperRule) -> NDArray[np.int64]:
    channels, rows = (
        (embodiment.state, episode.state) if rule.vector == "state" else (embodiment.action, episode.action)
    )
    column = [channel.name for channel in channels].index(rule.channel)
    opening = (rows[:, column] - rule.closed) / (rule.open - rule.closed)
    return crossings(opening, rule.closed_below, rule.open_above)


def _without_rule(episode: Episode, embodiment: Embodiment) -> NDArray[np.int64]:
    for column, channel in enumerate(embodiment.action):
        if channel.name == "gripper" and channel.low is not None and channel.high is not None:
            return crossings((episode.action[:, column] - channel.low) / (channel.high - channel.low))
    if episode.gripper is None:
        return np.zeros(0, np.int64)
    low, high = float(episode.gripper.min()), float(episode.gripper.max())
    if high - low < MOVED_AT_LEAST:
        return np.zeros(0, np.int64)
    return crossings((episode.gripper - low) / (high - low))


def task_points(
    poses: NDArray[np.float64], events: NDArray[np.int64], acting: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Where the next event is, of each frame; after the last event, where that one was.

    Args:
        poses: float64 (T, 7), or (T, E, 7) of several end effectors.
        events: int64 (N,), frames in order.
        acting: int64 (N,), whose events they are; all of the first end effector if None.

    Returns:
        float64 (T, 3), position (m, base frame) of the end effector that acts, at its event.
    """
    several = poses.reshape(len(poses), -1, 7)
    following = np.minimum(np.searchsorted(events, np.arange(len(poses)), side="left"), len(events) - 1)
    positions: NDArray[np.float64] = several[events[following], 0 if acting is None else acting[following], :3]
    return positions


def _project(
    points: NDArray[np.float64], camera: CameraTrack, width_share: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Pixels (T, 2) of points (T, 3), whether they are in view and sure enough, and their spread; zero elsewhere."""
    assert camera.intrinsics is not None  # for the type checker: the caller looked
    assert camera.pose is not None
    height, width = camera.images.shape[1:3]
    seen = project(points, camera.intrinsics, camera.pose, width, height)
    valid, spread = seen.visible, np.zeros(len(points))
    if camera.covariance is not None:
        spread = projection_spread(points, camera.intrinsics, camera.pose, unpacked_covariance(camera.covariance))
        valid = valid & (spread <= width_share * max(height, width))
    return np.where(valid[:, None], seen.pixels, 0.0), valid, np.where(valid, spread, 0.0)


def anchor_labels(
    episode: Episode, embodiment: Embodiment, widths: tuple[float, float] = (math.inf, math.inf)
) -> dict[str, AnchorLabels]:
    """Projects all anchors into every camera of every frame (PosA-VLA Eq. 3-4).

    An end-effector anchor is the frame's own end-effector position. The task anchor is the position, at the next event
    of any gripper, of the end effector whose gripper acts, seen by this frame's camera. A label is not valid, and
    masked out of the loss, where the point is behind the camera or out of view, where the camera is not calibrated or
    the end-effector pose unknown, for the task anchor where the episode has no event, and where a camera that was found
    is less sure of the point than its label is wide: a wrong label is worse than none. Of a camera on the hand, the
    end-effector's pixel may be all that is known: then the task anchor is masked, and those of other end effectors.

    Args:
        episode: The episode.
        embodiment: Its robot.
        widths: Standard deviations of the task's and the end-effectors' labels, shares of a picture's longer side.

    Returns:
        Camera role -> labels.
    """
    labels = {}
    events, acting = acting_grippers(episode, embodiment)
    poses, channels = episode.poses, 1 + (len(embodiment.end_effectors) or 1)
    for role, camera in episode.cameras.items():
        points = np.zeros((len(episode), channels, 2), np.float32)
        valid = np.zeros((len(episode), channels), np.bool_)
        spread = np.zeros((len(episode), channels), np.float32)
        if poses is not None and camera.intrinsics is not None and camera.pose is not None:
            if len(events):
                task = task_points(poses, events, acting)
                points[:, 0], valid[:, 0], spread[:, 0] = _project(task, camera, widths[0])
            for end in range(1, channels):
                at = poses[:, end - 1, :3]
                points[:, end], valid[:, end], spread[:, end] = _project(at, camera, widths[1])
        elif camera.end_effector_pixel is not None:
            height, width = camera.images.shape[1:3]
            pixels = camera.end_effector_pixel.reshape(len(episode), -1, 2)
            valid[:, 1:] = ((pixels >= 0) & (pixels < (width, height))).all(axis=2)
            points[:, 1:] = np.where(valid[:, 1:, None], pixels, 0.0)
        labels[role] = AnchorLabels(points, valid, spread)
    return labels
