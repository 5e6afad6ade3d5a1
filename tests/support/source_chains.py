"""MuJoCo's kinematics of the packages' own files, which shipped chains are held against."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from posa_vla.geometry import compose, invert

SOURCES = Path(__file__).parents[1] / "fixtures" / "chains"
# A tetrahedron, for the meshes that are not here: no joint depends on a shape.
CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
FACES = ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2))
STL = bytes(80) + struct.pack("<I", 4)
STL += b"".join(struct.pack("<12fH", 0, 0, 0, *(x for i in face for x in CORNERS[i]), 0) for face in FACES)
OBJ = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS) + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in FACES)


def source_model(file: str) -> Any:
    """The whole file of a package as MuJoCo compiles it, with other shapes."""
    path = SOURCES / file
    assets: dict[str, bytes] = {}
    for text in (other.read_text() for other in path.parent.glob("*.xml")):
        for mesh in re.findall(r'file(?:name)?="([^"]+\.(?:stl|obj))"', text):
            assets[mesh] = STL if mesh.endswith("stl") else OBJ.encode()
    assets |= {other.name: other.read_bytes() for other in path.parent.glob("*.xml")}
    return mujoco.MjModel.from_xml_string(path.read_text(), assets)


def source_poses(model: Any, positions: dict[str, np.ndarray], kind: str, name: str, base: str) -> np.ndarray:
    data, poses = mujoco.MjData(model), []
    for frame in range(len(next(iter(positions.values())))):
        for joint, values in positions.items():
            data.joint(joint).qpos[0] = values[frame]
        mujoco.mj_kinematics(model, data)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, getattr(data, kind)(name).xmat)
        root = np.concatenate([data.body(base).xpos, data.body(base).xquat])
        poses.append(compose(invert(root), np.concatenate([getattr(data, kind)(name).xpos, quaternion])))
    return np.stack(poses)
