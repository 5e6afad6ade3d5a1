"""Cameras of a whole dataset from the gripper's events, in words where they cannot be found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.calibration.events import NONE_LOST, Change, Lost
from posa_vla.dataset.calibration.fit import CameraFit, apart, fit_camera
from posa_vla.dataset.calibration.moved import moved_at, strange_run
from posa_vla.episodes.kinematics import ForwardKinematics

Floats = NDArray[np.float64]

# Fewest events that are fitted at all: ten numbers are sought, and some of the events are other things'.
FEWEST = 8
# Share of the longer side: the largest uncertainty, in the 90th percentile of the points, of a camera that is used.
USABLE = 0.03
# Share of the events that have to be the gripper's.
_GRIPPER = 0.4
# Share of the longer side, and pixels where that is less: how far the gripper's events may scatter around where the
# joints say that they are. Noise is averaged over many events, joints that are read wrongly are not.
_SCATTER, _SCATTER_PIXELS = 0.009, 1.5
# A camera on the hand sees the gripper in one place (share of the longer side) while it goes far (m).
_ONE_PLACE, _FAR = 0.02, 0.08
# Share of the events, first and last, whose own cameras are compared with the one of all.
_PART = 0.4
# Share of the longer side: two roles were exchanged where their cameras differ by less than this afterwards.
_EXCHANGED = 0.05


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
    lost: Lost = NONE_LOST,
) -> list[Stretch]:
    """One camera's calibration, or several, one after the other, where it was moved.

    Args:
        changes: (number of the episode, change), in the order of recording.
        reach: float64 (M, 3): where the end-effector goes, m, base frame.
        width: Of the pictures, pixels.
        height: Likewise.
        focal: Focal length in pixels, where it is known.
        offset: See `fit_camera`.
        lost: Events that are not among the changes.
    """
    numbers = [number for number, _ in changes]
    first, last = (min(numbers), max(numbers)) if numbers else (0, 0)
    if len(changes) < FEWEST:
        return [Stretch(first, last, len(changes), reasons=[_too_few(numbers, lost)])]
    side = max(width, height)
    places = np.stack([change.places for _, change in changes])
    poses = np.stack([change.pose for _, change in changes])
    middle = np.median(places[:, 0], axis=0)
    away = np.nanmin(np.linalg.norm(places - middle, axis=2), axis=1)
    if np.median(away) < _ONE_PLACE * side and np.linalg.norm(np.ptp(poses[:, :3], axis=0)) > _FAR:
        said = "the gripper is always in one place of the picture: the camera is on the hand, and needs its mount"
        place = float(middle[0]), float(middle[1])
        return [Stretch(first, last, len(changes), reasons=[said], on_hand=place)]

    def fitted(chosen: slice) -> CameraFit:
        return fit_camera(poses[chosen], places[chosen], reach, width=width, height=height, focal=focal, offset=offset)

    def found(part: Sequence[tuple[int, Change]]) -> list[Stretch]:
        if not part:
            return []
        return find_camera(part, reach, width=width, height=height, focal=focal, offset=offset)

    whole = fitted(slice(None))
    part = int(_PART * len(changes))
    if part >= FEWEST:
        early, late = fitted(slice(part)), fitted(slice(-part, None))
        split = moved_at(whole, early, late, poses, places, numbers, FEWEST)
        if split is not None:
            return [*found(changes[:split]), *found(changes[split:])]
    run = strange_run(whole.inliers, numbers)
    if run is None:
        return [_judged(whole, reach, first, last)]
    before, strange, after = changes[: run[0]], changes[slice(*run)], changes[run[1] :]
    usual = found([*before, *after])
    if len(usual) > 1:
        return [*found(before), *found(strange), *found(after)]
    back = [replace(usual[0], first=p[0][0], last=p[-1][0], events=len(p)) for p in (before, after) if p]
    return [*back[: bool(before)], *found(strange), *back[bool(before) :]]


def _too_few(numbers: Sequence[int], lost: Lost) -> str:
    said = (
        f"{len(numbers)} events of the gripper are seen while the arm stands{f' ({lost})' if str(lost) else ''}, and "
        f"{FEWEST} are needed at least: "
    )
    click = "or click (posa data calibrate --click ROLE)"
    if numbers:
        more = math.ceil((FEWEST - len(numbers)) * len(set(numbers)) / len(numbers))
        return f"{said}record {more} more demonstrations like those, {click}"
    if lost.moving + lost.unchanged:
        return f"{said}let the arm stand for half a second while the gripper closes or opens in view, {click}"
    return f"{said}the gripper never goes from open to closed or back: see `gripper` in the embodiment file, {click}"


def exchanged(found: Mapping[str, Sequence[Stretch]], reach: Floats) -> dict[str, str]:
    """Roles whose cameras were exchanged at some episode, each with what to do, in words.

    Args:
        found: The stretches of each role.
        reach: See `find_camera`.
    """
    said = {}
    for one, other in itertools.permutations(found, 2):
        for (before, after), (there_before, there_after) in itertools.product(
            itertools.pairwise(found[one]), itertools.pairwise(found[other])
        ):
            if (
                after.first == there_after.first
                and _same(before, there_after, reach)
                and _same(after, there_before, reach)
            ):
                said[one] = (
                    f"from episode {after.first} on it sees what {other} saw before, and {other} what it saw: the "
                    "cameras are exchanged; record these episodes under their right names, or take them as a dataset "
                    "of their own"
                )
    return said


def _same(one: Stretch, other: Stretch, reach: Floats) -> bool:
    if one.camera is None or other.camera is None:
        return one.on_hand is not None and other.on_hand is not None
    return apart(one.camera, other.camera, reach) < _EXCHANGED * max(one.camera.width, one.camera.height)


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
    if camera.sigma > max(_SCATTER * side, _SCATTER_PIXELS):
        reasons.append(
            f"the gripper's events scatter by {camera.sigma / side:.1%} of the longer side around where the joints say "
            f"that they are, expected {_SCATTER:.1%} at most: are the joints' units and signs right, and are "
            "pictures and joints of the same time? Or click (posa data calibrate --click ROLE)"
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
