"""The scripted expert: privileged state in, clean actions out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posa_vla.sim.environment import TaskEnvironment
from posa_vla.sim.tasks import WITH_BOWL

# Largest displacement the expert asks for in a control step (m); below the action limit, so that noise on top of it
# is seldom clipped.
_SPEED = 0.015
# Height of the fingertips over the grasp while they are beside the target (m), and how it falls with the distance:
# the approach is a funnel, lateral and vertical motion at once.
_CLEARANCE, _FUNNEL_SLOPE, _FUNNEL_RADIUS = 0.075, 3.0, 0.012
# How near the grasp the gripper starts to close, and how far off it may drift before it lets go again (m).
_NEAR, _FAR = 0.008, 0.016
# Height of the fingertips on the way to the bowl, and how far below it they let go (m).
_CARRY, _LOWER = 0.09, 0.015
# Opening below which the gripper counts as closing already.
_CLOSING = 0.9


class ScriptedExpert:
    """Picks the target from wherever the arm is: the action depends on the present state alone.

    Above the target it descends in a funnel, at the target it closes, with the target held it lifts. Pushed away it
    opens and comes back, since nothing is remembered.
    """

    def __init__(self, environment: TaskEnvironment) -> None:
        self._environment = environment
        scale = environment.simulation.area.scale
        self._clearance, self._near, self._far = _CLEARANCE * scale, _NEAR * scale, _FAR * scale
        # One jaw pushes the object against the other one: what follows the object then runs away with it.
        self._follow = np.array([0.5, 0.5, 0.5])
        if environment.simulation.arm.one_jaw:
            self._follow, self._far = np.array([0.0, 0.0, 0.5]), 1.6 * self._far

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
        reach = self._near if opening > _CLOSING else self._far
        if simulation.held(scene.target) and away < self._far and abs(offset[2]) < self._far and opening < _CLOSING:
            return self._carry(tip)
        if away < reach and abs(offset[2]) < reach:
            return self._action(offset * self._follow, 0.0)
        above = min(self._clearance, max(0.0, _FUNNEL_SLOPE * (away - _FUNNEL_RADIUS)))
        offset[2] += above
        return self._action(offset, 1.0)

    def _carry(self, tip: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action with the target in the gripper."""
        return self._action(np.array([0.0, 0.0, _SPEED]), 0.0)

    def _action(self, displacement: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
        length = float(np.linalg.norm(displacement))
        if length > _SPEED:
            displacement = displacement * (_SPEED / length)
        simulation = self._environment.simulation
        low, high = self._environment.embodiment.action_limits()
        place = simulation.joint_positions(), simulation.end_effector_position()
        return np.clip(simulation.control.towards(displacement, gripper, *place), low, high)


class BowlExpert(ScriptedExpert):
    """Puts the target into the bowl: over its rim, above its middle, and down a little before it lets go."""

    def act(self) -> NDArray[np.float32]:
        """See `ScriptedExpert.act`; over the bowl it stays open, and backs away."""
        environment = self._environment
        simulation, scene = environment.simulation, environment.scene
        if self._over_bowl(simulation.object_position(scene.target)) < self._far and not simulation.held(scene.target):
            return self._action(np.array([0.0, 0.0, _SPEED]), 1.0)
        return super().act()

    def _over_bowl(self, place: NDArray[np.float64]) -> float:
        """Metres between a place and the bowl's middle, seen from above."""
        return float(np.linalg.norm(place[:2] - np.array(self._environment.scene.bowl)))

    def _carry(self, tip: NDArray[np.float64]) -> NDArray[np.float32]:
        away, high = self._over_bowl(tip), _CARRY * self._environment.simulation.area.scale
        if away < self._near and tip[2] < high:
            return self._action(np.zeros(3), 1.0)
        aim = np.array([*np.array(self._environment.scene.bowl), high - _LOWER])
        if away > self._far:
            aim[2] = high
            if tip[2] < high - self._far:
                aim[:2] = tip[:2]
        return self._action(aim - tip, 0.0)


def make_expert(environment: TaskEnvironment) -> ScriptedExpert:
    """The expert of an environment's task."""
    return BowlExpert(environment) if environment.task in WITH_BOWL else ScriptedExpert(environment)
