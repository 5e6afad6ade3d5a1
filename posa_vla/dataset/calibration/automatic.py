"""Cameras of a whole dataset from the gripper's events, in words where they cannot be found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.calibration.events import Change
from posa_vla.dataset.calibration.fit import CameraFit, fit_camera
from posa_vla.episodes.kinematics import ForwardKinematics

Floats = NDArray[np.float64]

# Fewest events that are fitted at all: ten numbers are sought, and some of the events are other things'.
FEWEST = 8
# Share of the longer side: the largest uncertainty, in the 90th percentile of the points, of a camera that is used.
USABLE = 0.03
# Share of the events that have to be the gripper's.
_GRIPPER = 0.4
# A camera on the hand sees the gripper in one place (share of the longer side) while it goes far (m).
_ONE_PLACE, _FAR = 0.03, 0.08
# A camera was moved where the one that fits the first share of the events and the one that fits the last share of them
# explain all of them so much better than one does, in squared standard deviations.
_PART, _MOVED = 0.4, 60.0


@dataclass(frozen=True)
class Stretch:
    """Episodes in their order while which a camera stood where it stands.

    Attributes:
        first: Number of the first episode.
        last: Number of the last episode.
        events: How many events there are.
        camera: What was found, or None.
        reasons: Why it is not used, in words with what to do; empty if it is.
        uncertainty: 90th percentile over where the end-effector goes, share of the longer side; None without a camera.
        on_hand: Where in the picture (u, v) a camera on the hand sees the gripper; None of one that stands.
    """

    first: int
    last: int
    events: int
    camera: CameraFit | None = None
    reasons: list[str] = field(default_factory=list)
    uncertainty: float | None = None
    on_hand: tuple[float, float] | None = None

    @property
    def usable(self) -> bool:
        """Whether labels may be projected with the camera."""
        return self.camera is not None and not self.reasons


def moved_part(chain: ForwardKinematics | None, changes: Sequence[tuple[int, Change]]) -> Floats | None:
    """About where the middle of a change is, (3,) m, end-effector's frame; None where no jaw is declared."""
    if chain is None or not changes:
        return None
    before, after = np.median([change.openings for _, change in changes], axis=0)
    return chain.moved_part((float(before), float(after)))


def find_camera(
    changes: Sequence[tuple[int, Change]],
    reach: Floats,
    *,
    width: int,
    height: int,
    focal: float | None = None,
    offset: Floats | None = None,
) -> list[Stretch]:
    """One camera's calibration, or several, one after the other, where it was moved.

    Args:
        changes: (number of the episode, change), in the order of recording.
        reach: float64 (M, 3): where the end-effector goes, m, base frame.
        width: Of the pictures, pixels.
        height: Likewise.
        focal: Focal length in pixels, where it is known.
        offset: See `fit_camera`.
    """
    numbers = [number for number, _ in changes]
    first, last = (min(numbers), max(numbers)) if numbers else (0, 0)
    if len(changes) < FEWEST:
        few = (
            f"{len(changes)} events of the gripper are seen while the arm stands, and {FEWEST} are needed at least: "
            f"record {math.ceil((FEWEST - len(changes)) / 2)} more demonstrations, or click (posa data calibrate "
            "--click ROLE)"
        )
        return [Stretch(first, last, len(changes), reasons=[few])]
    side = max(width, height)
    places = np.stack([change.places for _, change in changes])
    poses = np.stack([change.pose for _, change in changes])
    middle = np.median(places[:, 0], axis=0)
    apart = np.nanmin(np.linalg.norm(places - middle, axis=2), axis=1)
    if np.median(apart) < _ONE_PLACE * side and np.linalg.norm(np.ptp(poses[:, :3], axis=0)) > _FAR:
        said = "the gripper is always in one place of the picture: the camera is on the hand, and needs its mount"
        place = float(middle[0]), float(middle[1])
        return [Stretch(first, last, len(changes), reasons=[said], on_hand=place)]

    def fitted(chosen: slice) -> CameraFit:
        return fit_camera(poses[chosen], places[chosen], reach, width=width, height=height, focal=focal, offset=offset)

    whole = fitted(slice(None))
    part = int(_PART * len(changes))
    if part >= FEWEST:
        early, late = fitted(slice(part)), fitted(slice(-part, None))
        split = _moved_at(whole, early, late, poses, places, numbers)
        if split is not None:
            return [
                stretch
                for stretched in (changes[:split], changes[split:])
                for stretch in find_camera(stretched, reach, width=width, height=height, focal=focal, offset=offset)
            ]
    return [_judged(whole, reach, first, last)]


def _moved_at(
    whole: CameraFit, early: CameraFit, late: CameraFit, poses: Floats, places: Floats, numbers: Sequence[int]
) -> int | None:
    """Place of the first change after a camera was moved, between two episodes; None where it stood."""
    sigma = max(min(early.sigma, late.sigma), 1.0)
    before, after, one = (camera.misfits(poses, places, sigma) for camera in (early, late, whole))
    best, place = _MOVED, None
    for split in range(FEWEST, len(numbers) - FEWEST + 1):
        if numbers[split] == numbers[split - 1]:
            continue
        gain = float(one.sum() - before[:split].sum() - after[split:].sum())
        if gain > best:
            best, place = gain, split
    return place


def _judged(camera: CameraFit, reach: Floats, first: int, last: int) -> Stretch:
    side = max(camera.width, camera.height)
    sure = float(np.quantile(camera.uncertainty(reach), 0.9)) / side
    events, share = len(camera.inliers), float(camera.inliers.mean())
    reasons = []
    if camera.below:
        reasons.append(
            "the camera would be below everything that the gripper touches, which is how a mirrored picture looks: "
            "turn the mirror off, or give the calibration (--calibration FILE)"
        )
    if camera.other is not None:
        reasons.append(
            "two cameras explain the events equally well: record demonstrations at other heights and with the hand "
            "turned otherwise"
        )
    if share < _GRIPPER:
        reasons.append(
            f"only {share:.0%} of the picture's changes are where the gripper would be: are joints, signs and units "
            "those of this arm, and is this its camera?"
        )
    if not sure <= USABLE:
        more = (
            "" if not math.isfinite(sure) else f", about {math.ceil(events * ((sure / USABLE) ** 2 - 1))} more events"
        )
        reasons.append(
            f"a label would be uncertain by {sure:.1%} of the picture's longer side, expected {USABLE:.0%} at most: "
            f"record demonstrations elsewhere on the table and at other heights{more}"
        )
    return Stretch(first, last, events, camera, reasons, sure)
