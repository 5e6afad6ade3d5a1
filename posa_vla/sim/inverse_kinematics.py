"""End-effector positions to joint targets by differential inverse kinematics."""

from __future__ import annotations

from typing import Any

import mink
import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import SimulatedArm

# The site's z axis (out of the gripper) points down, its x axis forward.
_DOWNWARD = np.array([0.0, 1.0, 0.0, 0.0])


class InverseKinematics:
    """Joint targets that keep the gripper pointing down, within the joint limits (QP by `mink`, solver `daqp`)."""

    def __init__(self, arm_model: Any, arm: SimulatedArm) -> None:
        """Takes the arm's model alone, so that the QP has the arm's degrees of freedom and no others."""
        self._configuration = mink.Configuration(arm_model)
        self._addresses = np.array([int(arm_model.jnt_qposadr[arm_model.joint(name).id]) for name in arm.joints])
        # With fewer than six joints there is not always a way to have both: then the position counts.
        turn = 0.2 if len(arm.joints) >= 6 else 0.01
        self._task = mink.FrameTask(arm.end_effector_site, "site", position_cost=1.0, orientation_cost=turn)
        self._limits = [mink.ConfigurationLimit(arm_model)]
        self._rest = arm_model.qpos0.copy()

    def tip(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where joints (J,) rad bring the end-effector, (3,) m, base frame."""
        q = self._rest.copy()
        q[self._addresses] = joints
        self._configuration.update(q)
        place: NDArray[np.float64] = self._configuration.get_transform_frame_to_world(
            self._task.frame_name, self._task.frame_type
        ).translation()
        return place

    def solve(self, joints: NDArray[np.float64], position: NDArray[np.float64], steps: int = 2) -> NDArray[np.float64]:
        """Joints (J,) rad that bring the end-effector to `position` (m, base frame), sought from `joints` (J,) rad."""
        q = self._rest.copy()
        q[self._addresses] = joints
        self._configuration.update(q)
        self._task.set_target(mink.SE3(np.concatenate([_DOWNWARD, position])))
        for _ in range(steps):
            velocity = mink.solve_ik(
                self._configuration, [self._task], 1.0, solver="daqp", damping=1e-6, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
        solved: NDArray[np.float64] = self._configuration.q[self._addresses].copy()
        return solved
