"""Recordings of a robot with two arms, ALOHA, and somebody who clicks what the package's own file says is true."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lerobot_datasets import LENGTHS, edit_info, make_v21
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation
from source_chains import source_model, source_poses
from taking_in import change_table, with_column

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.geometry import compose, project

WIDTH, HEIGHT, FOCAL = 640, 480, 560.0
ENDS = ("left", "right")
# Frames at which the left and then the right gripper close, in each episode.
CLOSES = (12, 17)
# From in front of the table, and on the left hand: where it looks from and to, in the base frame and the hand's.
HEAD, HEAD_AT = (0.25, -0.45, 1.0), (0.0, 0.5, 0.3)
WRIST, WRIST_AT = (-0.12, 0.0, 0.1), (0.06, 0.0, 0.0)
NAMES = [channel.name for channel in load_embodiment("aloha").state]


def looking(place: tuple[float, float, float], at: tuple[float, float, float]) -> np.ndarray:
    """Pose (7,) of a camera, OpenCV axes, its picture's x level."""
    forward = np.subtract(at, place) / np.linalg.norm(np.subtract(at, place))
    right = np.cross(forward, [0, 0, 1]) / np.linalg.norm(np.cross(forward, [0, 0, 1]))
    turn = Rotation.from_matrix(np.stack([right, np.cross(forward, right), forward], axis=1))
    return np.concatenate([place, turn.as_quat(scalar_first=True)])


@dataclass(frozen=True)
class Arms:
    """A dataset with cameras `head` and `cam_left_wrist`, and its truth.

    Attributes:
        folder: Of the dataset.
        poses: Of each episode, float64 (T, 2, 7), from the package's file.
    """

    folder: Path
    poses: list[np.ndarray]

    def pixel(self, role: str, frame: tuple[int, int], end: int, of: str = "tip") -> tuple[float, float]:
        """Where a tip, or the place where the gripper closes, is in a picture; perhaps out of view."""
        poses = self.poses[frame[0]]
        point = poses[CLOSES[end] if of == "place" else frame[1], end, :3]
        pose = looking(HEAD, HEAD_AT)
        if role != "head":
            pose = compose(poses[frame[1], 0], looking(WRIST, WRIST_AT))
        intrinsics = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
        u, v = project(point, intrinsics, pose, WIDTH, HEIGHT).pixels
        return float(u), float(v)

    def shows(self, role: str, frame: tuple[int, int], end: int, of: str = "tip") -> bool:
        u, v = self.pixel(role, frame, end, of)
        return 0 <= u < WIDTH and 0 <= v < HEIGHT


def _motion(number: int, frames: int) -> np.ndarray:
    """State float32 (frames, 14): both arms swing, each gripper closes once."""
    draw = np.random.default_rng(number)
    rows = 0.3 * np.sin(draw.uniform(0, 6, 14) + np.arange(frames)[:, None] / draw.uniform(6, 12, 14))
    for column, closes in zip((6, 13), CLOSES, strict=True):
        rows[:, column] = np.arange(frames) < closes
    return rows.astype(np.float32)


def recorded_arms(folder: Path) -> Arms:
    cameras = {role: f"observation.images.{role}" for role in ("head", "cam_left_wrist")}
    make_v21(folder, cameras=tuple(cameras.values()), video=False)
    vector = {"dtype": "float32", "shape": [14], "names": {"motors": NAMES}}
    image = {"dtype": "image", "shape": [HEIGHT, WIDTH, 3], "names": None}
    features = {"observation.state": vector, "action": vector, **dict.fromkeys(cameras.values(), image)}
    edit_info(folder, features=features, robot_type="aloha")
    source = source_model("gym_aloha/assets/bimanual_viperx_transfer_cube.xml")
    arms = Arms(folder, [])
    for number, frames in enumerate(LENGTHS):
        state = _motion(number, frames)
        joints = {
            f"vx300s_{name.replace('_', '/', 1)}": state[:, column].astype(np.float64)
            for column, name in enumerate(NAMES)
            if not name.endswith("gripper")
        }
        arms.poses.append(
            np.stack([source_poses(source, joints, "site", f"cali_{end}_site1", "world") for end in ENDS], axis=1)
        )
        columns: dict[str, Any] = {
            name: pa.array(state.tolist(), pa.list_(pa.float32())) for name in ("observation.state", "action")
        }
        columns |= {
            name: pa.array([{"bytes": _picture(arms, role, (number, n)), "path": None} for n in range(frames)])
            for role, name in cameras.items()
        }
        for name, values in columns.items():
            change_table(folder, number, lambda table, name=name, values=values: with_column(table, name, values))
    return arms


def _picture(arms: Arms, role: str, frame: tuple[int, int]) -> bytes:
    """The left tip blue, the right one orange."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90))
    for end, colour in enumerate(((30, 90, 255), (255, 140, 0))):
        u, v = arms.pixel(role, frame, end)
        ImageDraw.Draw(image).ellipse((u - 9, v - 9, u + 9, v + 9), fill=colour)
    out = io.BytesIO()
    image.save(out, format="JPEG")
    return out.getvalue()
