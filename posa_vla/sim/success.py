"""When a scene's task is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posa_vla.sim.tasks import BOWL_RADIUS, LIFT_HEIGHT, Scene

if TYPE_CHECKING:
    from posa_vla.sim.simulation import Simulation

# An object lies in the bowl when its centre is lower than this over its own height on the table (m).
_IN_BOWL = 0.02


def lifts(simulation: Simulation, scene: Scene) -> list[tuple[bool, float]]:
    """(held, metres above where it lay) of every object that is right, the target first."""
    return [
        (simulation.held(i), float(simulation.object_position(i)[2] - scene.objects[i].position[2]))
        for i in (scene.target, *scene.equals)
    ]


def succeeded(simulation: Simulation, scene: Scene) -> bool:
    """Whether the task is done: the target held high, or lying in the bowl with the gripper off it."""
    if scene.bowl is None:
        high = LIFT_HEIGHT * simulation.area.scale
        return any(held and lift >= high for held, lift in lifts(simulation, scene))
    (held, lift), *_ = lifts(simulation, scene)
    away = float(np.linalg.norm(simulation.object_position(scene.target)[:2] - np.array(scene.bowl)))
    return not held and away < BOWL_RADIUS * simulation.area.scale and lift < _IN_BOWL
