"""What a camera's clicks come to: a calibration, or why there is none, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.calibration.clicks import ClickedCamera, camera_from_clicks
from posa_vla.dataset.calibration.events import Change
from posa_vla.dataset.calibration.fit import CameraFit
from posa_vla.episodes.calibration import CameraCalibration, EndEffectorPixel
from posa_vla.geometry import quaternion_to_matrix
from posa_vla.pipeline.calibration import declared
from posa_vla.pipeline.clicking.filmed import Filmed, Frame

Floats = NDArray[np.float64]
Pixel = tuple[float, float]

# Share of the longer side by which clicks on the tip may differ in a camera on the hand.
_STEADY = 0.03
# Fewest rejected clicks that say that a camera was moved.
_MOVED = 3
# Fewest events of the gripper that say whether the tip was clicked, and how far from it the picture may change (m): it
# changes at the fingers, not in the middle between their tips.
_ENOUGH, _BESIDE = 4, 0.03


@dataclass(frozen=True)
class Judged:
    """What came of clicks.

    Attributes:
        calibration: Of the camera; None where it is refused.
        reasons: Why it is refused, in words with what to do.
        remarks: What is to be known of it, in words.
        doubts: Why it may be wrong although it is not refused, in words.
        rejected: Clicked frames whose clicks were not used.
        misses: Clicked frame -> how far the click is from where the camera sees its point, pixels.
        sight: Where the camera sees the point in any frame; None where it does not.
        error: Reprojection error, pixels; None where the camera was not sought.
        uncertainty: See `ClickedCamera`.
        clicks: How many there were.
    """

    calibration: CameraCalibration | None
    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    rejected: list[Frame] = field(default_factory=list)
    misses: dict[Frame, float] = field(default_factory=dict)
    sight: Callable[[Frame], Pixel | None] = lambda _: None
    error: float | None = None
    uncertainty: float | None = None
    clicks: int = 0


def fixed_camera(filmed: Filmed, role: str, clicks: dict[Frame, Pixel]) -> Judged:
    """A camera that stands, from clicks on the gripper's tip."""
    width, height = filmed.sizes[role]

    def point(frame: Frame) -> Floats:
        place: Floats = filmed.motions[frame[0]].poses[frame[1], :3]
        return place

    points = np.array([point(frame) for frame in clicks]).reshape(-1, 3)
    pixels = np.array(list(clicks.values())).reshape(-1, 2)
    found = camera_from_clicks(points, pixels, filmed.reach(), width=width, height=height)
    calibration = None
    if found.camera is not None and found.uncertainty is not None and not found.reasons:
        intrinsics, pose, how = declared(found.camera, found.uncertainty, "clicked")
        calibration = CameraCalibration(intrinsics=intrinsics, base_from_camera=pose, found=how)
    doubts = _moved(list(clicks), found.rejected)
    if found.camera is not None and calibration is not None:
        doubts += _beside(found.camera, filmed.changes(role))
    return _judged(found, list(clicks), point, calibration, doubts)


def middle_of(pixels: list[Pixel]) -> Pixel:
    """The median of some pixels, at least one, in each direction."""
    u, v = np.median(np.array(pixels), axis=0).tolist()
    return u, v


def tip_on_hand(filmed: Filmed, role: str, clicks: dict[Frame, Pixel]) -> Judged:
    """Where a camera on the hand sees the gripper's tip: always in one place."""
    if not clicks:
        return Judged(None, ["no click, 1 is needed: click the gripper's tip in one frame"])
    width, height = filmed.sizes[role]
    u, v = middle_of(list(clicks.values()))
    away = np.linalg.norm(np.array(list(clicks.values())) - (u, v), axis=1)
    misses = dict(zip(clicks, away.tolist(), strict=True))

    def sight(_: Frame) -> Pixel:
        return u, v

    if away.max() > _STEADY * max(width, height):
        return Judged(
            None,
            [
                f"clicks on the tip are up to {away.max():.0f} px apart from their middle, and a camera on the hand "
                "sees it in one place: click the point between the finger tips (a camera that stands is clicked "
                "without --on-hand)"
            ],
            misses=misses,
            sight=sight,
            clicks=len(clicks),
        )
    calibration = CameraCalibration(end_effector_pixel=EndEffectorPixel(u=u, v=v, width=width, height=height))
    said = "the end-effector's label is known by this; the task's needs the camera's mount, or clicks on places"
    return Judged(calibration, remarks=[said], misses=misses, sight=sight, clicks=len(clicks))


def mounted_camera(filmed: Filmed, role: str, clicks: dict[Frame, Pixel], tip: Pixel | None) -> Judged:
    """A camera on the hand, from clicks on the places where the gripper closes later, and where it sees the tip."""
    width, height = filmed.sizes[role]

    def point(frame: Frame) -> Floats:
        seen: Floats = filmed.motions[frame[0]].place_seen_from(np.array([frame[1]]))[0]
        return seen

    # The tip is where the end-effector's frame has its origin.
    points = np.array([*map(point, clicks), *([np.zeros(3)] if tip is not None else [])]).reshape(-1, 3)
    pixels = np.array([*clicks.values(), *([tip] if tip is not None else [])]).reshape(-1, 2)
    found = camera_from_clicks(points, pixels, width=width, height=height, fixed=False)
    calibration = None
    if found.camera is not None and found.uncertainty is not None and not found.reasons:
        intrinsics, pose, how = declared(found.camera, found.uncertainty, "clicked")
        calibration = CameraCalibration(intrinsics=intrinsics, end_effector_from_camera=pose, found=how)
    return _judged(found, list(clicks), point, calibration, [])


def _judged(
    found: ClickedCamera,
    frames: list[Frame],
    point: Callable[[Frame], Floats],
    calibration: CameraCalibration | None,
    doubts: list[str],
) -> Judged:
    camera = found.camera

    def sight(frame: Frame) -> Pixel | None:
        if camera is None:
            return None
        u, v = camera.pixels(point(frame)[None])[0]
        inside = 0 <= u < camera.width and 0 <= v < camera.height
        return (float(u), float(v)) if inside else None

    misses = dict(zip(frames, found.misses.tolist(), strict=False)) if camera is not None else {}
    said = []
    for number in found.rejected:
        if number == len(frames):
            said.append("the click on the tip does not fit those on places: it was not used")
            continue
        episode, frame = frames[number]
        off = f"{found.misses[number]:.0f} px off" if np.isfinite(found.misses[number]) else "behind the camera"
        said.append(f"click {number + 1} (episode {episode}, frame {frame}) is {off}: it was not used")
    return Judged(
        calibration,
        found.reasons,
        said,
        doubts,
        [frames[number] for number in found.rejected if number < len(frames)],
        misses,
        sight,
        found.error,
        found.uncertainty,
        len(frames),
    )


def _beside(camera: CameraFit, changes: list[Change]) -> list[str]:
    """A hint where the picture changes elsewhere than at the tip while the gripper closes or opens.

    Who clicks on another part of the hand in every picture finds a camera that explains all clicks: the hand hangs down
    in all of them, and the camera is only shifted.
    """
    if len(changes) < _ENOUGH:
        return []
    points = np.stack([change.pose[:3] for change in changes])
    seen = camera.pixels(points)
    away = np.nanmin(np.linalg.norm(np.stack([c.places for c in changes]) - seen[:, None], axis=2), axis=1)
    depth = (points - camera.pose[:3]) @ quaternion_to_matrix(camera.pose[3:])[:, 2]
    if not np.median(away * depth / camera.intrinsics[0]) > _BESIDE:
        return []
    return [
        f"while the gripper closes or opens, the picture changes {np.median(away):.0f} px away from where this camera "
        f"sees its tip (the middle one of {len(changes)} events): was the point between the finger tips clicked, and "
        "not another part of the hand?"
    ]


def _moved(frames: list[Frame], rejected: list[int]) -> list[str]:
    """A hint where all rejected clicks are of episodes after, or before, all others."""
    wrong = [frames[number][0] for number in rejected]
    right = [frame[0] for number, frame in enumerate(frames) if number not in rejected]
    if len(wrong) < _MOVED or not right:
        return []
    if min(wrong) > max(right) or max(wrong) < min(right):
        later = max(min(wrong), min(right))
        return [f"all of these are on one side of episode {later}: was the camera moved before it?"]
    return []
