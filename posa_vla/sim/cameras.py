"""Rendering and calibration of a scene's cameras."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from posa_vla.geometry import matrix_to_quaternion

# From MuJoCo's camera axes (x right, y up, looking along -z) to OpenCV's (x right, y down, looking along z).
_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


class SceneCameras:
    """Off-screen renderer of square images, without shadows, reflections and multisampling."""

    def __init__(self, model: Any, image_size: int) -> None:
        self._model = model
        self.size = image_size
        self._renderer = mujoco.Renderer(model, image_size, image_size)

    def render(self, data: Any, camera: str) -> NDArray[np.uint8]:
        """An image, uint8 (H, W, 3)."""
        self._renderer.update_scene(data, camera)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        image: NDArray[np.uint8] = self._renderer.render()
        return image

    def calibration(self, data: Any, camera: str) -> dict[str, NDArray[np.float64]]:
        """Calibration of a camera at this instant.

        Returns:
            `intrinsics` float64 (4,) fx, fy, cx, cy in pixels and `pose` float64 (7,) in the base frame: position (m),
            quaternion `wxyz`, OpenCV axes.
        """
        index = self._model.camera(camera).id
        focal = self.size / 2 / np.tan(np.deg2rad(self._model.cam_fovy[index]) / 2)
        rotation = data.cam_xmat[index].reshape(3, 3) @ _TO_OPENCV
        return {
            "intrinsics": np.array([focal, focal, self.size / 2, self.size / 2]),
            "pose": np.concatenate([data.cam_xpos[index], matrix_to_quaternion(rotation)]),
        }

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._renderer.close()
