"""The simulator under the conditions of a suite."""

from __future__ import annotations

from typing import Any

from posa_vla.evidence.suite import Suite

# Scenes that one process runs at a time: 1.3 times the episodes a second of one alone (benchmarks/evaluation.py).
TOGETHER = 8


def open_environment(suite: Suite) -> Any:
    """The simulated environment of a suite's conditions.

    Raises:
        BadInput: There is no GL library.
    """
    from posa_vla.sim.environment import make_environment
    from posa_vla.sim.gl import require_gl
    from posa_vla.sim.tasks import make_kinds

    require_gl()
    return make_environment(
        suite.embodiment,
        suite.task,
        image_size=suite.image_size,
        objects=suite.params.objects,
        max_steps=suite.params.max_steps,
        perturb=suite.params.perturb,
        kinds=make_kinds(suite.params.held_out, suite.params.targets, suite.params.objects),
        wording=suite.params.wording,
    )
