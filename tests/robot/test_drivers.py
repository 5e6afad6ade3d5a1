"""The drivers keep the Robot protocol's promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment
from robot.fakes import FakePolicy

from posa_vla.errors import BadInput
from posa_vla.files import write_json
from posa_vla.policy.execution import Execution
from posa_vla.robot.control.loop import run_episode
from posa_vla.robot.control.robot import RobotOptions, open_driver
from posa_vla.robot.drivers.dry_run import DryRunRobot
from posa_vla.robot.drivers.simulated import SimulatedRobot
from posa_vla.testing import RobotContract

SIMULATED = RobotOptions("sim_arm6", "pick", image_size=32, objects=1, max_steps=8)


@pytest.fixture
def options(tmp_path: Path) -> RobotOptions:
    path = tmp_path / "arm.yaml"
    write_json(path, make_embodiment().model_dump(mode="json"))  # JSON is YAML
    return RobotOptions(str(path), "pick", image_size=16, max_steps=5)


@pytest.fixture
def dry(options: RobotOptions) -> DryRunRobot:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    return DryRunRobot(options, clock=lambda: clock[0], sleep=sleep)


@pytest.mark.usefixtures("installed")
def test_drivers_are_found_by_entry_point(options: RobotOptions) -> None:
    assert isinstance(open_driver("dry-run", options), DryRunRobot)
    assert isinstance(open_driver("simulated", SIMULATED), SimulatedRobot)
    with pytest.raises(BadInput, match="did you mean 'simulated'"):
        open_driver("simulatd", options)


class TestDryRun(RobotContract):
    @pytest.fixture
    def robot(self, dry: DryRunRobot) -> DryRunRobot:
        return dry


class TestSimulated(RobotContract):
    @pytest.fixture
    def robot(self) -> SimulatedRobot:
        return SimulatedRobot(SIMULATED)


def test_the_dry_run_counts_what_a_robot_would_take(dry: DryRunRobot) -> None:
    assert not dry.can_move
    dry.connect()
    dry.start_episode(0)
    for value in (-0.1, 0.1, 0.05):
        dry.apply(np.array([value, 1.0], np.float32))
    with pytest.raises(BadInput, match="action"):
        dry.apply(np.array([0.2, 0.0], np.float32))
    assert dry.applied == 3


def test_an_episode_on_the_dry_run_counts_and_cannot_know_success(dry: DryRunRobot) -> None:
    report = run_episode(dry, FakePolicy([[0.05, 1.0]] * 4), seed=0, way=Execution(execute=4, max_steps=60))
    assert (report.success, report.steps, dry.applied) == (None, 5, 5)


def test_the_simulated_robot_moves_holds_and_ends() -> None:
    robot = SimulatedRobot(SIMULATED)
    robot.hold()  # before it is connected: it stands
    robot.connect()
    try:
        robot.start_episode(5)
        start = robot.observe()
        assert start.images["head"].shape == (32, 32, 3)
        robot.hold()
        held = robot.observe()
        place = [i for i, c in enumerate(robot.embodiment.state) if c.name.startswith("end_effector_")]
        np.testing.assert_allclose(held.state[place], start.state[place], atol=0.004)
        for _ in range(7):
            robot.apply(np.array([0.0, 0.0, -0.02, 1.0], np.float32))
        end = robot.observe()
        assert end.state[place[2]] < held.state[place[2]] - 0.04
        assert end.ended
        assert end.success is False
    finally:
        robot.disconnect()


def test_the_simulated_robot_names_an_unknown_task() -> None:
    with pytest.raises(BadInput, match="did you mean 'pick'"):
        SimulatedRobot(RobotOptions("sim_arm6", "pik", image_size=32)).connect()
