"""Where a picture changes while the gripper closes or opens and the arm stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from posa_vla.dataset.labels import acting_grippers
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.images import Images

Floats = NDArray[np.float64]

# The arm stands while it moves and turns by less than this: metres, radians.
_STILL, _STILL_TURN = 0.006, 0.1
# Seconds: how long before and after its event a gripper may be moving.
_BEFORE, _AFTER = 0.3, 1.2
# Largest number of places in a picture that one event may have changed, and the least of them beside the strongest.
PLACES, _WEAKEST = 3, 0.15
# A change is above this many times the median change, and above this level of 255.
_ABOVE_NOISE, _LEVEL = 6.0, 12.0
# Where the gripper's state is not recorded: before and after it closes on something.
OPENINGS = (1.0, 0.35)
# Shares of the picture's longer side. Lines up to so thin are outlines of an arm that moved a little; noise is averaged
# over so much; and parts of a gripper that are so near to each other have one middle.
_OUTLINE, _BLUR, _NEAR = 1 / 200, 1 / 80, 1 / 40


@dataclass(frozen=True)
class Change:
    """A gripper's event as a camera saw it.

    Attributes:
        frame: Of the event.
        pose: float64 (7,) end-effector of the gripper that acts, meanwhile, position (m) and quaternion `wxyz`, base
            frame.
        places: float64 (`PLACES`, 2) pixels, the strongest first; NaN where there are fewer.
        openings: Of the gripper before and after, 0 closed to 1 open, as measured.
    """

    frame: int
    pose: Floats
    places: Floats
    openings: tuple[float, float] = OPENINGS


@dataclass(frozen=True)
class Lost:
    """Events of a gripper that say nothing about a camera.

    Attributes:
        moving: While which the arm did not stand.
        unchanged: While which nothing changed in the picture.
    """

    moving: int = 0
    unchanged: int = 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(self.moving + other.moving, self.unchanged + other.unchanged)

    def __str__(self) -> str:
        words = []
        if self.moving:
            words.append(f"at {self.moving} others the arm does not stand for a moment")
        if self.unchanged:
            words.append(f"at {self.unchanged} others nothing changes in the picture")
        return ", and ".join(words)


NONE_LOST = Lost()


def standing(end_effector: Floats, event: int, fps: float) -> tuple[int, int] | None:
    """First and last frame around an event while which the arm stands; None where it does not stand for two frames.

    Args:
        end_effector: float64 (T, 7), position (m) and quaternion `wxyz`.
        event: Frame at which the gripper starts to close or open.
        fps: Frames a second.
    """
    away = np.linalg.norm(end_effector[:, :3] - end_effector[event, :3], axis=1)
    turned = 2 * np.arccos(np.clip(np.abs(end_effector[:, 3:] @ end_effector[event, 3:]), 0, 1))
    still = (away < _STILL) & (turned < _STILL_TURN)
    first = last = event
    while first > max(event - round(_BEFORE * fps), 0) and still[first - 1]:
        first -= 1
    while last < min(event + round(_AFTER * fps), len(still) - 1) and still[last + 1]:
        last += 1
    return (first, last) if last - event >= 2 else None


def changed_places(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Floats:
    """Middles of where two pictures uint8 (H, W, 3) differ, float64 (`PLACES`, 2) pixels, the strongest first."""
    places = np.full((PLACES, 2), np.nan)
    side = max(before.shape)
    thin = _odd(_OUTLINE * side)
    difference = np.abs(after.astype(np.float32) - before).max(axis=2)
    difference = ndimage.grey_opening(difference, (thin, thin))
    smooth = ndimage.uniform_filter(difference, max(3, _odd(_BLUR * side)))
    threshold = max(_ABOVE_NOISE * float(np.median(smooth)), _LEVEL)
    changed = smooth > threshold
    regions, count = ndimage.label(ndimage.maximum_filter(changed, _odd(_NEAR * side)))
    if count == 0:
        return places
    # A shadow is less different from the table than a gripper is; squared, it hardly counts.
    weight = np.where(changed, smooth - threshold, 0) ** 2
    numbers = np.arange(1, count + 1)
    energy = ndimage.sum_labels(weight, regions, numbers)
    strongest = [n for n in np.argsort(-energy)[:PLACES] if energy[n] > _WEAKEST * energy.max()]
    for row, number in enumerate(strongest):
        v, u = ndimage.center_of_mass(weight, regions, int(numbers[number]))
        places[row] = u + 0.5, v + 0.5
    return places


def _odd(width: float) -> int:
    """The nearest odd number of pixels, in which a pixel has a middle."""
    return 2 * round((width - 1) / 2) + 1


def gripper_changes(episode: Episode, embodiment: Embodiment, role: str) -> tuple[list[Change], Lost]:
    """The grippers' events of an episode in one camera's pictures, where the acting arm stands and something changes.

    Args:
        episode: With the end-effector's pose.
        embodiment: Says which channel each gripper is.
        role: Of the camera.

    Returns:
        The changes, and how many events are not among them.
    """
    poses = episode.poses
    if poses is None:
        return [], NONE_LOST
    events = list(zip(*acting_grippers(episode, embodiment), strict=True))
    stretches = {}
    for event, end in events:
        found = standing(poses[:, end], int(event), episode.fps)
        if found is not None:
            stretches[int(event), int(end)] = found
    pictures = pictures_at(episode.cameras[role].images, {frame for pair in stretches.values() for frame in pair})
    changes = []
    for (event, end), (first, last) in stretches.items():
        places = changed_places(pictures[first], pictures[last])
        if np.isfinite(places).any():
            measured = _measured(episode, embodiment, end)
            openings = OPENINGS if measured is None else (float(measured[first]), float(measured[last]))
            changes.append(Change(event, poses[event, end], places, openings))
    return changes, Lost(len(events) - len(stretches), len(stretches) - len(changes))


def _measured(episode: Episode, embodiment: Embodiment, end: int) -> Floats | None:
    """A gripper's opening (T,) where the state has a channel of its rule's name; None where it has none."""
    rules = embodiment.gripper_rules
    names = [channel.name for channel in embodiment.state]
    if not rules or rules[end].channel not in names:
        return None
    rule = rules[end]
    opening: Floats = (episode.state[:, names.index(rule.channel)].astype(np.float64) - rule.closed) / (
        rule.open - rule.closed
    )
    return np.clip(opening, 0, 1)


def pictures_at(images: Images, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Some pictures, by the numbers of their frames; a video is decoded up to the last of them."""
    if isinstance(images, np.ndarray):
        return {frame: images[frame] for frame in wanted}
    pictures: dict[int, NDArray[np.uint8]] = {}
    for frame, image in enumerate(images):
        if frame in wanted:
            pictures[frame] = image
            if len(pictures) == len(wanted):
                break
    return pictures
