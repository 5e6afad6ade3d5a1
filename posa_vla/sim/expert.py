"""The scripted expert: privileged state in, clean actions out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posa_vla.sim.environment import TaskEnvironment

# Largest displacement the expert asks for in a control step (m); below the action limit, so that noise on top of it
# is seldom clipped.
_SPEED = 0.015
# Height of the fingertips over the grasp while they are beside the target (m), and how it falls with the distance:
# the approach is a funnel, lateral and vertical motion at once.
_CLEARANCE, _FUNNEL_SLOPE, _FUNNEL_RADIUS = 0.075, 3.0, 0.012
# How near the grasp the gripper starts to close, and how far off it may drift before it lets go again (m).
_NEAR, _FAR = 0.008, 0.016
# Opening below which the gripper counts as closing already.
_CLOSING = 0.9


class ScriptedExpert:
    """Picks the target from wherever the arm is: the action depends on the present state alone.

    Above the target it descends in a funnel, at the target it closes, with the target held it lifts. Pushed away it
    opens and comes back, since nothing is remembered.
    """

    def __init__(self, environment: TaskEnvironment) -> None:
        self._environment = environment

    def reset(self) -> None:
        """Starts a new episode; there is nothing to forget."""

    def act(self) -> NDArray[np.float32]:
        """The action for the present state, float32 (A,), within the action limits."""
        environment = self._environment
        simulation, scene = environment.simulation, environment.scene
        tip = simulation.end_effector_position()
        opening = simulation.gripper_opening()
        grasp = simulation.object_position(scene.target)
        offset = grasp - tip
        away = float(np.linalg.norm(offset[:2]))
        reach = _NEAR if opening > _CLOSING else _FAR
        if simulation.held(scene.target) and away < _FAR and abs(offset[2]) < _FAR and opening < _CLOSING:
            return self._action(np.array([0.0, 0.0, _SPEED]), 0.0)
        if away < reach and abs(offset[2]) < reach:
            return self._action(offset * 0.5, 0.0)
        above = min(_CLEARANCE, max(0.0, _FUNNEL_SLOPE * (away - _FUNNEL_RADIUS)))
        offset[2] += above
        return self._action(offset, 1.0)

    def _action(self, displacement: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
        length = float(np.linalg.norm(displacement))
        if length > _SPEED:
            displacement = displacement * (_SPEED / length)
        simulation = self._environment.simulation
        low, high = self._environment.embodiment.action_limits()
        place = simulation.joint_positions(), simulation.end_effector_position()
        return np.clip(simulation.control.towards(displacement, gripper, *place), low, high)
