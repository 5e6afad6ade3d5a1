"""The doubles that stand for a robot and a policy in these tests keep the contracts."""

from __future__ import annotations

from typing import ClassVar

import pytest
from robot.fakes import SIZE, FakePolicy, FakeRobot

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.policy.policy import Observation
from posa_vla.robot.control.robot import synthetic_reading
from posa_vla.testing import PolicyContract, RobotContract


class TestFakeRobot(RobotContract):
    @pytest.fixture
    def robot(self) -> FakeRobot:
        return FakeRobot()


class TestFakePolicy(PolicyContract):
    looks_at: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def policy(self) -> FakePolicy:
        return FakePolicy([[0.05, 1.0]] * 4)

    @pytest.fixture
    def embodiment(self, policy: FakePolicy) -> Embodiment:
        return policy.embodiment

    @pytest.fixture
    def observation(self, embodiment: Embodiment) -> Observation:
        reading = synthetic_reading(embodiment, SIZE, "pick")
        return Observation(reading.images, reading.state, reading.instruction)
