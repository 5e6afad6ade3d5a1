"""An arm that is driven by poses of its end effector, and demonstrations of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from factories import make_episode
from scipy.spatial.transform import Rotation

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.schema import parse

QUATERNION = ["qw", "qx", "qy", "qz"]
EULER = ["roll", "pitch", "yaw"]


def pose_arm(form: str = "quaternion_wxyz") -> Embodiment:
    """x, y, z, a rotation and a gripper, in state and action alike; Euler angles in degrees."""
    names, unit = (QUATERNION, "1") if form.startswith("quaternion") else (EULER, "deg")
    turn = 1.0 if unit == "1" else 180.0
    channels: list[dict[str, Any]] = [{"name": name, "unit": "m", "low": -1, "high": 1} for name in "xyz"]
    channels += [{"name": name, "unit": unit, "low": -turn, "high": turn} for name in names]
    channels.append({"name": "gripper", "unit": "1", "low": 0, "high": 1})
    value = {
        "id": "pose_arm",
        "simulated": True,
        "cameras": {role: {"source": role, "moving": role == "wrist"} for role in ("head", "wrist")},
        "state": channels,
        "action": channels,
        "action_frame": "base",
        "control_hz": 10,
        "rotations": [{"form": form, "channels": names}],
    }
    return parse(Embodiment, value, "pose arm")


def pose_episode(rng: np.random.Generator) -> Episode:
    """An end effector that drifts and turns; each action is the pose two frames on."""
    frames, ahead = 20, 2
    steps = rng.normal([0.02, 0, 0], 0.01, (frames + ahead, 3))
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.05, (frames + ahead, 3)), axis=0)) * Rotation.from_rotvec(
        [2.9, 0, 0]  # near the place where quaternions change their sign
    )
    quaternions = turns.as_quat(scalar_first=True) * rng.choice([-1, 1], (frames + ahead, 1))
    gripper = (np.arange(frames + ahead) < 12).astype(float)
    rows = np.column_stack([np.cumsum(steps, axis=0), quaternions, gripper]).astype(np.float32)
    episode = make_episode(rng, frames=frames, embodiment="pose_arm", calibrated=False)
    return replace(episode, state=rows[:frames], action=rows[ahead:])
