"""One environment for the tests that only use it: building one costs half a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posa_vla.sim.environment import TaskEnvironment, make_environment
from posa_vla.sim.gl import require_gl

# Test modules that import mujoco themselves are collected after this file.
require_gl()


@pytest.fixture(scope="session")
def environment() -> Iterator[TaskEnvironment]:
    made = make_environment("sim_arm6", "pick", image_size=64, objects=3, max_steps=60)
    yield made
    made.close()
