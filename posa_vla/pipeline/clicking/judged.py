"""What a camera's clicks come to: a calibration, or why there is none, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.calibration.clicks import ClickedCamera, camera_from_clicks
from posa_vla.dataset.calibration.events import Change
from posa_vla.dataset.calibration.fit import INLIER, CameraFit
from posa_vla.dataset.calibration.frames import Spot
from posa_vla.episodes.calibration import CameraCalibration, EndEffectorPixel
from posa_vla.geometry import quaternion_to_matrix
from posa_vla.pipeline.calibration import declared
from posa_vla.pipeline.clicking.filmed import Filmed

Floats = NDArray[np.float64]
Pixel = tuple[float, float]

# Share of the longer side by which clicks on the tip may differ in a camera on the hand.
_STEADY = 0.03
# Fewest rejected clicks that say that a camera was moved.
_MOVED = 3
# Fewest events of the gripper that say whether the tip was clicked, and how far from it the picture may change (m): it
# changes at the fingers, not in the middle between their tips.
_ENOUGH, _BESIDE = 4, 0.03
# Share of the longer side within which a click that does not fit its gripper was on another one's tip.
_OTHER_TIP = 0.03


@dataclass(frozen=True)
class Judged:
    """What came of clicks.

    Attributes:
        calibration: Of the camera; None where it is refused.
        reasons: Why it is refused, in words with what to do.
        remarks: What is to be known of it, in words.
        doubts: Why it may be wrong although it is not refused, in words.
        rejected: Where clicks were not used.
        misses: Where it was clicked -> how far the click is from where the camera sees its point, pixels.
        sight: Where the camera sees the point in any frame; None where it does not.
        error: Reprojection error, pixels; None where the camera was not sought.
        uncertainty: See `ClickedCamera`.
        clicks: How many there were.
    """

    calibration: CameraCalibration | None
    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    rejected: list[Spot] = field(default_factory=list)
    misses: dict[Spot, float] = field(default_factory=dict)
    sight: Callable[[Spot], Pixel | None] = lambda _: None
    error: float | None = None
    uncertainty: float | None = None
    clicks: int = 0


def fixed_camera(filmed: Filmed, role: str, clicks: dict[Spot, Pixel]) -> Judged:
    """A camera that stands, from clicks on the grippers' tips: those of all arms give one camera."""
    width, height = filmed.sizes[role]

    def found_by(spots: list[Spot]) -> ClickedCamera:
        points = np.array([filmed.tip(spot) for spot in spots]).reshape(-1, 3)
        pixels = np.array(list(clicks.values())).reshape(-1, 2)
        return camera_from_clicks(points, pixels, filmed.reach(), width=width, height=height)

    found = found_by(list(clicks))
    calibration = None
    if found.camera is not None and found.uncertainty is not None and not found.reasons:
        intrinsics, pose, how = declared(found.camera, found.uncertainty, "clicked")
        calibration = CameraCalibration(intrinsics=intrinsics, base_from_camera=pose, found=how)
    doubts = _moved(list(clicks), found.rejected)
    if found.camera is not None and calibration is not None:
        doubts += _beside(found.camera, filmed.changes(role))
    if len(filmed.ends) == 2 and found.camera is not None:
        first, second = filmed.ends
        if not found_by([Spot(episode, frame, 1 - end) for episode, frame, end in clicks]).reasons:
            said = f"the clicks would fit one camera with {first} and {second} the other way round: "
            if calibration is None:
                doubts = []
                found.reasons.append(f"{said}click the tip of the arm that is called {first} where {first} is asked")
            else:
                doubts.append(f"{said}were they mistaken for each other in every picture?")
    judged = _judged(filmed, found, list(clicks), filmed.tip, calibration, doubts)
    if found.camera is not None:
        for number in found.rejected:
            judged.remarks.extend(_on_another(filmed, found.camera, number, list(clicks.items())[number]))
    return judged


def middle_of(pixels: list[Pixel]) -> Pixel:
    """The median of some pixels, at least one, in each direction."""
    u, v = np.median(np.array(pixels), axis=0).tolist()
    return u, v


def tip_on_hand(filmed: Filmed, role: str, clicks: dict[Spot, Pixel], hand: int = 0) -> Judged:
    """Where a camera on the hand sees the gripper's tip: always in one place.

    Args:
        filmed: The pictures.
        role: Of the camera.
        clicks: On the tip of the hand that the camera is on.
        hand: Number of its end effector.
    """
    if not clicks:
        return Judged(None, ["no click, 1 is needed: click the gripper's tip in one frame"])
    width, height = filmed.sizes[role]
    u, v = middle_of(list(clicks.values()))
    away = np.linalg.norm(np.array(list(clicks.values())) - (u, v), axis=1)
    misses = dict(zip(clicks, away.tolist(), strict=True))

    def sight(_: Spot) -> Pixel:
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
    pixel = EndEffectorPixel(u=u, v=v, width=width, height=height)
    calibration = CameraCalibration(end_effector_pixel=pixel, end_effector=filmed.name(hand))
    said = "the end-effector's label is known by this; the task's needs the camera's mount, or clicks on places"
    if filmed.ends:
        said = (
            f"the label of {filmed.name(hand)} is known by this; the task's and other hands' need the camera's mount, "
            "or clicks on places"
        )
    return Judged(calibration, remarks=[said], misses=misses, sight=sight, clicks=len(clicks))


def mounted_camera(filmed: Filmed, role: str, clicks: dict[Spot, Pixel], tip: Pixel | None, hand: int = 0) -> Judged:
    """A camera on the hand, from clicks on the places where its gripper closes later, and where it sees the tip.

    Args:
        filmed: The pictures.
        role: Of the camera.
        clicks: On places.
        tip: Pixel; None where nobody clicked it.
        hand: Number of the end effector that the camera is on.
    """
    width, height = filmed.sizes[role]

    def point(spot: Spot, seen_from: int = hand) -> Floats:
        motion = filmed.motions[spot.episode]
        seen: Floats = motion.place_seen_from(np.array([spot.frame]), spot.end, seen_from)[0]
        return seen

    def found_on(seen_from: int) -> ClickedCamera:
        # The tip is where the end-effector's frame has its origin.
        origin = [np.zeros(3)] if tip is not None else []
        points = np.array([*(point(spot, seen_from) for spot in clicks), *origin]).reshape(-1, 3)
        pixels = np.array([*clicks.values(), *([tip] if tip is not None else [])]).reshape(-1, 2)
        return camera_from_clicks(points, pixels, width=width, height=height, fixed=False)

    found = found_on(hand)
    calibration = None
    if found.camera is not None and found.uncertainty is not None and not found.reasons:
        intrinsics, pose, how = declared(found.camera, found.uncertainty, "clicked")
        calibration = CameraCalibration(
            intrinsics=intrinsics, end_effector_from_camera=pose, end_effector=filmed.name(hand), found=how
        )
    elif found.camera is not None:
        fitting = [name for end, name in enumerate(filmed.ends) if end != hand and not found_on(end).reasons]
        found.reasons.extend(f"the clicks would fit a camera on {n}: --on-hand {role}={n}" for n in fitting)
    return _judged(filmed, found, list(clicks), point, calibration, [])


def spot_name(filmed: Filmed, spot: Spot) -> str:
    """A gripper in a frame, as a person is told of it."""
    name = filmed.name(spot.end)
    return f"episode {spot.episode}, frame {spot.frame}" + (f", {name}" if name is not None else "")


def _on_another(filmed: Filmed, camera: CameraFit, number: int, click: tuple[Spot, Pixel]) -> list[str]:
    """A hint where a click that was not used is on another gripper's tip, which is how most of them come about."""
    (episode, frame, asked), pixel = click
    near = max(INLIER * camera.sigma, _OTHER_TIP * max(camera.width, camera.height))
    said = []
    for end, name in enumerate(filmed.ends):
        if end != asked:
            seen = camera.pixels(filmed.tip(Spot(episode, frame, end))[None])[0]
            if np.linalg.norm(seen - pixel) < near:
                said.append(f"click {number + 1} is where the tip of {name} is: {filmed.ends[asked]} was asked for")
    return said


def _judged(
    filmed: Filmed,
    found: ClickedCamera,
    frames: list[Spot],
    point: Callable[[Spot], Floats],
    calibration: CameraCalibration | None,
    doubts: list[str],
) -> Judged:
    camera = found.camera

    def sight(spot: Spot) -> Pixel | None:
        if camera is None:
            return None
        u, v = camera.pixels(point(spot)[None])[0]
        inside = 0 <= u < camera.width and 0 <= v < camera.height
        return (float(u), float(v)) if inside else None

    misses = dict(zip(frames, found.misses.tolist(), strict=False)) if camera is not None else {}
    said = []
    for number in found.rejected:
        if number == len(frames):
            said.append("the click on the tip does not fit those on places: it was not used")
            continue
        off = f"{found.misses[number]:.0f} px off" if np.isfinite(found.misses[number]) else "behind the camera"
        said.append(f"click {number + 1} ({spot_name(filmed, frames[number])}) is {off}: it was not used")
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


def _moved(frames: list[Spot], rejected: list[int]) -> list[str]:
    """A hint where all rejected clicks are of episodes after, or before, all others."""
    wrong = [frames[number].episode for number in rejected]
    right = [spot.episode for number, spot in enumerate(frames) if number not in rejected]
    if len(wrong) < _MOVED or not right:
        return []
    if min(wrong) > max(right) or max(wrong) < min(right):
        later = max(min(wrong), min(right))
        return [f"all of these are on one side of episode {later}: was the camera moved before it?"]
    return []
