"""Rendering and calibration of a scene's cameras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from posa_vla.geometry import matrix_to_quaternion

# From MuJoCo's camera axes (x right, y up, looking along -z) to OpenCV's (x right, y down, looking along z).
_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


class SceneCameras:
    """Off-screen renderer, without shadows, reflections and multisampling."""

    def __init__(self, model: Any, image_size: int, aspects: Mapping[str, float]) -> None:
        """Takes the images' longer side (pixels), and width over height of each camera's."""
        self._model = model
        self._shapes = {camera: (round(image_size / aspect), image_size) for camera, aspect in aspects.items()}
        self._renderers = {shape: mujoco.Renderer(model, *shape) for shape in dict.fromkeys(self._shapes.values())}

    def shape(self, camera: str) -> tuple[int, int]:
        """Height and width of a camera's images."""
        return self._shapes[camera]

    def render(self, data: Any, camera: str) -> NDArray[np.uint8]:
        """An image, uint8 (H, W, 3)."""
        renderer = self._renderers[self._shapes[camera]]
        renderer.update_scene(data, camera)
        flags = renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        image: NDArray[np.uint8] = renderer.render()
        return image

    def calibration(self, data: Any, camera: str) -> dict[str, NDArray[np.float64]]:
        """Calibration of a camera at this instant.

        Returns:
            `intrinsics` float64 (4,) fx, fy, cx, cy in pixels and `pose` float64 (7,) in the base frame: position (m),
            quaternion `wxyz`, OpenCV axes.
        """
        index = self._model.camera(camera).id
        height, width = self._shapes[camera]
        focal = height / 2 / np.tan(np.deg2rad(self._model.cam_fovy[index]) / 2)
        rotation = data.cam_xmat[index].reshape(3, 3) @ _TO_OPENCV
        return {
            "intrinsics": np.array([focal, focal, width / 2, height / 2]),
            "pose": np.concatenate([data.cam_xpos[index], matrix_to_quaternion(rotation)]),
        }

    def close(self) -> None:
        """Frees the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
