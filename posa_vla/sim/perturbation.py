"""Scenes that look otherwise than usual: the head camera elsewhere, other light, another table; seeded by the scene."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from posa_vla.params import PerturbParams

_HEAD, _TABLE = "head", "scene/table"


class Perturbation:
    """Changes a scene's model for one seed; the calibration that is recorded is the perturbed camera's, so it is true.

    The idea is domain randomisation (Tobin et al. 2017).
    """

    def __init__(self, model: Any, params: PerturbParams) -> None:
        """Remembers the model as it is without a perturbation.

        Args:
            model: `mujoco.MjModel` of a scene.
            params: How strongly each thing is perturbed.
        """
        self._model, self._params = model, params
        self._camera, self._table = model.camera(_HEAD).id, model.geom(_TABLE).id
        self._position = model.cam_pos[self._camera].copy()
        self._quaternion = model.cam_quat[self._camera].copy()
        self._light, self._ambient = model.light_diffuse.copy(), np.array(model.vis.headlight.ambient)
        self._colour = model.geom_rgba[self._table].copy()

    def apply(self, seed: int) -> dict[str, Any]:
        """Perturbs the model as the scene's seed says.

        Returns:
            What was changed, JSON values: `camera_shift` (m) and `camera_turn` (rad, rotation vector) of the head
            camera in the base frame, `light` (factor), `table` (grey, 0 to 1).
        """
        params, model = self._params, self._model
        # The first number keeps this stream apart from the scene's and the noise's.
        rng = np.random.default_rng([2, seed])
        shift = rng.normal(0, 1, 3) * params.camera_shift
        turn = rng.normal(0, 1, 3) * params.camera_turn
        light = float(1 + params.light * rng.uniform(-1, 1))
        grey = float(np.clip(self._colour[0] + params.table * rng.uniform(-1, 1), 0.05, 0.95))
        angle = float(np.linalg.norm(turn))
        rotation, quaternion = np.array([1.0, 0, 0, 0]), np.zeros(4)
        if angle > 0:
            mujoco.mju_axisAngle2Quat(rotation, turn / angle, angle)
        mujoco.mju_mulQuat(quaternion, rotation, self._quaternion)
        model.cam_pos[self._camera] = self._position + shift
        model.cam_quat[self._camera] = quaternion
        model.light_diffuse[:] = np.clip(self._light * light, 0, 1)
        model.vis.headlight.ambient[:] = np.clip(self._ambient * light, 0, 1)
        model.geom_rgba[self._table, :3] = grey
        return {"camera_shift": shift.tolist(), "camera_turn": turn.tolist(), "light": light, "table": grey}
