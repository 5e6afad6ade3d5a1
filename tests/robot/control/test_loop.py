"""What reaches a robot, and what makes it hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from robot.fakes import FakePolicy, FakeRobot

from posa_vla.errors import BadInput
from posa_vla.policy.execution import Execution
from posa_vla.robot.control.loop import EpisodeReport, run_episode
from posa_vla.robot.control.robot import Reading
from posa_vla.robot.control.safety import Envelope

GOOD = [[0.05, 1.0]] * 4


def run(robot: FakeRobot, policy: FakePolicy, max_steps: int = 12, execute: int = 4) -> EpisodeReport:
    return run_episode(robot, policy, seed=1, way=Execution(execute=execute, max_steps=max_steps))


def test_a_good_policy_acts_until_the_robot_says_that_it_is_over() -> None:
    robot, policy = FakeRobot(end_after=6), FakePolicy(GOOD)
    report = run(robot, policy)
    assert (report.success, report.steps, report.holds, report.clamped) == (True, 6, {}, 0)
    assert len(policy.seen) == len(report.latencies_ms) == 2
    assert len(robot.applied) == 6
    assert robot.held == 1  # the end of the episode


def test_max_steps_ends_an_episode_that_the_robot_does_not() -> None:
    report = run(FakeRobot(), FakePolicy(GOOD), max_steps=7)
    assert (report.success, report.steps) == (False, 7)


def test_a_nan_is_never_applied() -> None:
    robot = FakeRobot()
    report = run(robot, FakePolicy([GOOD[0], [float("nan"), 1.0], GOOD[0], GOOD[0]]))
    assert report.holds == {"action not finite": 6}
    assert len(robot.applied) == 6  # one before each NaN, none after it in its chunk
    assert all(np.isfinite(action).all() for action in robot.applied)


def test_what_exceeds_the_limits_is_clamped_and_counted() -> None:
    robot = FakeRobot()
    report = run(robot, FakePolicy([[5.0, -3.0], *GOOD[1:]]))
    assert report.clamped == 3
    np.testing.assert_allclose(robot.applied[0], [0.1, 0.0])


def test_actions_of_a_slow_policy_are_too_late_and_never_applied() -> None:
    robot = FakeRobot()

    def think() -> None:
        robot.time += 0.5

    report = run(robot, FakePolicy(GOOD, think))
    assert report.holds == {"late action": 12}
    assert robot.applied == []


def _lose_camera(index: int, reading: Reading) -> Reading:
    return replace(reading, images={"head": reading.images["head"]}) if 2 <= index < 5 else reading


def _break_state(index: int, reading: Reading) -> Reading:
    return replace(reading, state=reading.state * np.nan) if 2 <= index < 5 else reading


def _shorten_state(index: int, reading: Reading) -> Reading:
    return replace(reading, state=reading.state[:1]) if 2 <= index < 5 else reading


def _freeze(index: int, reading: Reading) -> Reading:
    return replace(reading, time=reading.time - 1) if 2 <= index < 5 else reading


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (_lose_camera, "lost camera"),
        (_break_state, "wrong state"),
        (_shorten_state, "wrong state"),
        (_freeze, "old reading"),
    ],
)
def test_an_unfit_reading_means_hold_until_a_fit_one(disturb: object, reason: str) -> None:
    robot = FakeRobot(disturb=disturb)  # type: ignore[arg-type]  # parametrised
    policy = FakePolicy(GOOD)
    report = run(robot, policy, execute=1)
    assert report.holds == {reason: 3}
    assert report.steps == 12
    assert len(robot.applied) == 9
    for seen in policy.seen:
        assert set(seen.images) == {"head", "wrist"}
        assert np.isfinite(seen.state).all()


def test_a_camera_that_the_policy_does_not_use_may_be_lost() -> None:
    robot = FakeRobot(disturb=_lose_camera)
    report = run_episode(robot, FakePolicy(GOOD), seed=0, way=Execution(execute=1, max_steps=12), cameras=["head"])
    assert report.holds == {}


def test_a_policy_that_fails_leaves_a_robot_that_holds() -> None:
    robot = FakeRobot()

    def think() -> None:
        raise BadInput("no such weights")

    with pytest.raises(BadInput, match="no such weights"):
        run(robot, FakePolicy(GOOD, think))
    assert robot.held == 1
    assert robot.applied == []


@given(
    action=st.lists(st.floats(width=32), min_size=0, max_size=4),
    late=st.floats(-1, 1, allow_nan=False),
)
def test_whatever_is_admitted_is_finite_in_time_and_within_the_limits(action: list[float], late: float) -> None:
    embodiment = FakeRobot().embodiment
    low, high = embodiment.action_limits()
    admitted, reason = Envelope(embodiment).admit(np.array(action, np.float32), deadline=0.0, now=late)
    if admitted is None:
        assert reason
        return
    assert late <= 0
    assert admitted.shape == low.shape
    assert ((low <= admitted) & (admitted <= high)).all()
