"""Small synthetic episodes for tests of everything that reads, stores or packs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode, Source
from posa_vla.schema import parse


def make_embodiment(*, cameras: tuple[str, ...] = ("head", "wrist"), name: str = "test_arm") -> Embodiment:
    return parse(
        Embodiment,
        {
            "id": name,
            "simulated": True,
            "cameras": {role: {"source": role, "moving": role == "wrist"} for role in cameras},
            "state": [
                {"name": "x", "unit": "m", "low": -1, "high": 1},
                {"name": "y", "unit": "m", "low": -1, "high": 1},
                {"name": "z", "unit": "m", "low": -1, "high": 1},
            ],
            "action": [
                {"name": "delta_x", "unit": "m", "low": -0.1, "high": 0.1},
                {"name": "gripper", "unit": "1", "low": 0, "high": 1},
            ],
            "action_frame": "base",
            "control_hz": 10,
        },
        "test embodiment",
    )


def _pictures(rng: np.random.Generator, size: int, position: Any, pose: Any) -> Any:
    """A coarse background, and something that flickers where the end-effector is seen."""
    frames = len(position)
    images = np.tile(rng.integers(32, 224, (size, size, 3), dtype=np.uint8), (frames, 1, 1, 1))
    # The camera looks straight down: x is to the right in the image, y up.
    right = (position[:, 0] - pose[:, 0]) / (0.3 - position[:, 2]) * size + size / 2
    down = -(position[:, 1] - pose[:, 1]) / (0.3 - position[:, 2]) * size + size / 2
    for frame, (u, v) in enumerate(zip(right.astype(int), down.astype(int), strict=True)):
        patch = images[frame, max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2]
        patch[:] = rng.integers(0, 256, patch.shape, dtype=np.uint8)
    return images


def make_episode(
    rng: np.random.Generator,
    *,
    frames: int = 12,
    size: int = 32,
    cameras: tuple[str, ...] = ("head", "wrist"),
    instruction: str = "pick up the red cube",
    embodiment: str = "test_arm",
    source: Source = "sim",
    success: bool = True,
    calibrated: bool = True,
    close_at: int | None = 6,
    scene: dict[str, Any] | None = None,
) -> Episode:
    """An end-effector that wanders 30 cm below cameras that look straight down; the gripper closes at `close_at`."""
    steps = rng.normal(0, 0.004, (frames, 3))
    position = np.cumsum(steps, axis=0)
    end_effector = np.concatenate([position, np.tile([1.0, 0, 0, 0], (frames, 1))], axis=1)
    command = np.ones(frames, np.float32)
    if close_at is not None:
        command[close_at:] = 0
    intrinsics = np.tile([1.0 * size, size, size / 2, size / 2], (frames, 1))
    tracks = {}
    for role in cameras:
        pose = np.tile([0.0, 0, 0.3, 0, 1, 0, 0], (frames, 1))
        if role == "wrist":
            pose[:, :2] += position[:, :2]
        tracks[role] = CameraTrack(
            images=_pictures(rng, size, position, pose),
            intrinsics=intrinsics if calibrated else None,
            pose=pose if calibrated else None,
        )
    return Episode(
        embodiment=embodiment,
        instruction=instruction,
        source=source,
        success=success,
        fps=10.0,
        cameras=tracks,
        state=position.astype(np.float32),
        action=np.stack([np.append(steps[1:, 0], 0).astype(np.float32), command], axis=1),
        end_effector=end_effector if calibrated else None,
        gripper=command.copy() if calibrated else None,
        scene={"task": "pick", "seed": int(rng.integers(2**31))} if scene is None else scene,
    )
