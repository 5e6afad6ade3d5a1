"""Rules that look at an episode's pictures: black, overexposed, still, and moving where the gripper is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.validation.findings import Remark
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.media.images import Images
from posa_vla.geometry import project
from posa_vla.validation_params import ValidateParams

# Pictures are looked at through a grid of about this many pixels a side.
_GRID = 48
# Frames that are decoded before they are looked at together.
_BLOCK = 64
# Grey values (0 to 255) below which a picture is black, and of a pixel that is white; share of white ones.
_BLACK, _WHITE, _MOSTLY = 10, 250, 0.6
# Mean change of grey below which two pictures are the same one, encoded twice.
_SAME = 0.02
# The gripper's surroundings, as a share of the picture's shorter side.
_AROUND = 0.15
# Movement of the end-effector between two frames that a picture must show (m).
_MOVES = 0.002
# Fewer moving frames than this say nothing about the calibration.
_ENOUGH = 10
# State changes by this share of its range while the picture stands still.
_STATE_MOVES = 0.02


@dataclass(frozen=True)
class Glance:
    """One camera's episode through a coarse grid.

    Attributes:
        grey: float32 (T, h, w), 0 to 255.
        step: Pixels of the picture between two of the grid.
    """

    grey: NDArray[np.float32]
    step: int


def glance(images: Images) -> Glance:
    """Looks at every picture once; stored ones are decoded one block at a time.

    Raises:
        BadInput: A picture cannot be decoded.
    """
    frames, height, width, _ = images.shape
    step = max(min(height, width) // _GRID, 1)
    grey = np.empty((frames, -(-height // step), -(-width // step)), np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    if isinstance(images, np.ndarray):
        for start in range(0, frames, _BLOCK):
            grey[start : start + _BLOCK] = images[start : start + _BLOCK, ::step, ::step] @ weights
    else:
        for frame, image in enumerate(images):
            grey[frame] = image[::step, ::step] @ weights
    return Glance(grey, step)


def image_remarks(
    episode: Episode, embodiment: Embodiment, rules: ValidateParams, glances: dict[str, Glance]
) -> Iterator[Remark]:
    """What the rules say of an episode's pictures; `glances` by camera role."""
    span = np.ptp(episode.state, axis=0)
    shares = np.abs(np.diff(episode.state, axis=0)) / np.where(span > 0, span, 1)
    for role, seen in glances.items():
        yield from _exposure(role, seen.grey, rules)
        change = np.abs(np.diff(seen.grey, axis=0)).mean(axis=(1, 2)) if len(seen.grey) > 1 else np.zeros(0)
        yield from _stillness(role, change < _SAME, shares, episode.fps, rules)
        pose = episode.cameras[role].pose
        # A camera on the hand moves whether or not its declaration says so: all of its picture does.
        if not embodiment.cameras[role].moving and pose is not None and not np.ptp(pose, axis=0).any():
            yield from _drift(role, seen, episode.cameras[role], episode.poses, rules)


def is_black(image: NDArray[np.uint8]) -> bool:
    """Whether a picture, uint8 (H, W, 3), is black by the rule `black`."""
    return bool(glance(image[None]).grey.mean() < _BLACK)


def _exposure(role: str, grey: NDArray[np.float32], rules: ValidateParams) -> Iterator[Remark]:
    dark = grey.mean(axis=(1, 2)) < _BLACK
    white = (grey >= _WHITE).mean(axis=(1, 2)) > _MOSTLY
    for rule, bad, params, word in (
        ("black", dark, rules.black, "black"),
        ("overexposed", white, rules.overexposed, "mostly white"),
    ):
        if bad.mean() > params.threshold:
            yield rule, int(bad.argmax()), f"{role}: {100 * bad.mean():.0f} % of the frames are {word}"


def _stillness(
    role: str, still: NDArray[np.bool_], shares: NDArray[np.floating], fps: float, rules: ValidateParams
) -> Iterator[Remark]:
    if not len(still):
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.view(np.int8), [0]])))
    longest, first = 0.0, 0
    for start, stop in edges.reshape(-1, 2):
        moved = float(shares[start:stop].sum(axis=0).max()) > _STATE_MOVES
        if moved and (stop - start) / fps > longest:
            longest, first = (stop - start) / fps, int(start)
    if longest > rules.frozen_frames.threshold:
        yield "frozen-frames", first, f"{role}: the picture stands still for {longest:.1f} s while the state changes"
    moving = shares.max(axis=1) > 0.001
    repeated = float((still & moving).sum() / max(moving.sum(), 1))
    if repeated > rules.repeated_frames.threshold and longest <= rules.frozen_frames.threshold:
        yield "repeated-frames", None, f"{role}: {100 * repeated:.0f} % of the frames repeat the one before"


def _drift(
    role: str, seen: Glance, camera: CameraTrack, poses: NDArray[np.float64] | None, rules: ValidateParams
) -> Iterator[Remark]:
    """Motion in the picture belongs to the arms: around the projected ends that move, (T, E, 7), there must be more."""
    if poses is None or camera.intrinsics is None or camera.pose is None:
        return
    height, width = camera.images.shape[1:3]
    projected = project(poses[..., :3], camera.intrinsics[:, None], camera.pose[:, None], width, height)
    moved = np.linalg.norm(np.diff(poses[..., :3], axis=0), axis=2) > _MOVES
    followed = moved & projected.visible[1:] & projected.visible[:-1]
    # The picture also moves where an arm is that is not seen, or not followed, in a frame: such frames say nothing.
    frames = np.flatnonzero(followed.any(axis=1) & (followed == moved).all(axis=1))
    if len(frames) < _ENOUGH:
        return
    rows, columns = (np.arange(size) * seen.step + seen.step / 2 for size in seen.grey.shape[1:])
    around, elsewhere = 0.0, 0.0
    for frame in frames:
        motion = np.abs(seen.grey[frame + 1] - seen.grey[frame])
        near = np.zeros(motion.shape, np.bool_)
        for u, v in projected.pixels[frame + 1][followed[frame]]:
            near |= np.hypot(columns[None, :] - u, rows[:, None] - v) < _AROUND * min(height, width)
        around += float(motion[near].mean()) if near.any() else 0.0
        elsewhere += float(motion[~near].mean()) if not near.all() else 0.0
    ratio = around / max(elsewhere, 1e-6)
    if ratio < rules.calibration_drift.threshold:
        yield (
            "calibration-drift",
            None,
            f"{role}: the picture moves {ratio:.2f} times as much around the projected gripper as elsewhere, over "
            f"{len(frames)} frames",
        )
