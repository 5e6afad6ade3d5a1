"""What every robot driver must keep: the life cycle and the promises of `posa_vla.robot.control.robot.Robot`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from posa_vla.errors import BadInput
from posa_vla.policy.execution import Execution
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.robot.control.loop import run_episode
from posa_vla.robot.control.robot import Reading, Robot

# Control periods that the pace is measured over, and the share of one that they may be off together.
_PERIODS, _SLACK = 5, 0.5
# Calls of `observe`, `apply` and `hold` in a random order.
_CALLS = 24


class _Standing:
    """A policy whose every action is the same one."""

    digest = "0" * 64
    horizon = 2
    flow_steps = None

    def __init__(self, action: NDArray[np.float32], frame: str) -> None:
        self._action, self._frame = action, frame

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        return self

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        return ActionChunk(np.tile(self._action, (len(batch), self.horizon, 1)), self._frame)


class RobotContract:
    """Tests of one driver; a subclass whose name begins with `Test` has it as the fixture `robot`.

    On a real robot the suite applies `still_action` alone, some forty control periods of it.

    Attributes:
        seed: Of the episodes.
    """

    seed = 0

    @pytest.fixture
    def robot(self) -> Robot:
        """The driver, constructed and not connected."""
        raise NotImplementedError("give the driver: override the fixture `robot` in the subclass")

    @pytest.fixture
    def ready(self, robot: Robot) -> Iterator[Robot]:
        """The driver, connected, at the start of an episode."""
        robot.connect()
        try:
            robot.start_episode(self.seed)
            yield robot
        finally:
            robot.disconnect()

    def still_action(self, robot: Robot) -> NDArray[np.float32]:
        """An action that keeps the robot where it is: the measured value of a channel that the state has, else zero.

        Override it where zero would move the robot.
        """
        names = [channel.name for channel in robot.embodiment.state]
        measured = dict(zip(names, robot.observe().state.tolist(), strict=True))
        low, high = robot.embodiment.action_limits()
        wanted = np.array([measured.get(channel.name, 0.0) for channel in robot.embodiment.action], np.float32)
        return np.clip(wanted, low, high)

    def require_reading(self, robot: Robot, reading: Reading) -> None:
        """Fails where a reading is not what the contract says."""
        embodiment = robot.embodiment
        unknown = set(reading.images) - set(embodiment.cameras)
        assert not unknown, f"images of cameras that the embodiment does not declare: {sorted(unknown)}"
        for role, image in reading.images.items():
            assert isinstance(image, np.ndarray), f"{role}: a camera that gave nothing is absent, got {type(image)}"
            assert image.dtype == np.uint8, f"{role}: expected uint8, got {image.dtype}"
            assert image.ndim == 3, f"{role}: expected (H, W, 3), got {image.shape}"
            assert image.shape[2] == 3, f"{role}: expected (H, W, 3), got {image.shape}"
            assert image.size, f"{role}: a camera that gave nothing is absent, got {image.shape}"
        assert isinstance(reading.state, np.ndarray)
        assert reading.state.dtype == np.float32
        assert reading.state.shape == (len(embodiment.state),)
        assert np.isfinite(reading.state).all()
        assert isinstance(reading.instruction, str)
        assert reading.instruction, "an instruction in words"
        assert reading.success in {True, False, None}
        assert isinstance(reading.ended, bool)
        assert reading.time <= robot.now(), "a reading is no newer than the robot's clock"

    def test_capabilities_and_limits_are_declared_before_connect(self, robot: Robot) -> None:
        """An agent reads them before anything is opened, to decide whether a policy fits."""
        assert isinstance(robot.can_move, bool)
        robot.embodiment.require_limits("a driver")
        assert robot.embodiment.control_hz > 0

    def test_an_episode_starts_with_a_reading_of_the_declared_shape(self, ready: Robot) -> None:
        """Cameras, state and words are as the embodiment declares them."""
        reading = ready.observe()
        self.require_reading(ready, reading)
        assert not reading.ended, "an episode has only begun"

    def test_a_robot_that_stands_may_be_held_and_disconnected_again(self, robot: Robot) -> None:
        """`hold` and `disconnect` raise nothing at any time after `connect`."""
        robot.connect()
        try:
            robot.hold()
            robot.start_episode(self.seed)
            robot.hold()
            robot.hold()
        finally:
            robot.disconnect()
        robot.disconnect()
        robot.hold()

    def test_any_order_of_observe_apply_and_hold_is_allowed(self, ready: Robot) -> None:
        """The calls come in a random order; a new episode starts where one is over, and the clock never goes back."""
        draw, times = random.Random(self.seed), [ready.now()]
        for _ in range(_CALLS):
            reading = ready.observe()
            self.require_reading(ready, reading)
            times.append(reading.time)
            if reading.ended:
                ready.start_episode(self.seed + 1)
            call = draw.choice(["observe", "apply", "hold"])
            if call == "apply":
                ready.apply(self.still_action(ready))
            elif call == "hold":
                ready.hold()
            times.append(ready.now())
        assert times == sorted(times), "the robot's clock went back"

    def test_an_action_outside_the_contract_is_refused(self, ready: Robot) -> None:
        """Nothing is clamped in silence: what reaches a driver was checked, or is a fault."""
        low, high = ready.embodiment.action_limits()
        still = self.still_action(ready)
        faults = {"too short": still[:-1], "too long": np.append(still, still[-1:])}
        for name, value in {
            "not a number": np.nan,
            "infinite": np.inf,
            "too low": low[0] - max(1.0, abs(low[0])),
            "too high": high[0] + max(1.0, abs(high[0])),
        }.items():
            faults[name] = still.copy()
            faults[name][0] = value
        for name, action in faults.items():
            try:
                ready.apply(action)
            except BadInput:
                continue
            pytest.fail(f"an action that is {name} was applied: {action.tolist()}")

    @pytest.mark.parametrize("call", ["apply", "hold"])
    def test_a_call_lasts_one_control_period(self, ready: Robot, call: str) -> None:
        """The driver keeps the pace by its own clock; whoever calls it never sleeps."""
        period, action = 1 / ready.embodiment.control_hz, self.still_action(ready)
        start = ready.now()
        for _ in range(_PERIODS):
            if call == "apply":
                ready.apply(action)
            else:
                ready.hold()
        assert (ready.now() - start) / period == pytest.approx(_PERIODS, abs=_SLACK)

    def test_a_robot_that_cannot_move_does_not(self, ready: Robot) -> None:
        """Where `can_move` is false, no action changes a reading."""
        if ready.can_move:
            return
        before = ready.observe()
        for limit in ready.embodiment.action_limits():
            ready.apply(limit)
        after = ready.observe()
        np.testing.assert_array_equal(before.state, after.state)
        assert before.images.keys() == after.images.keys()
        for role, image in before.images.items():
            np.testing.assert_array_equal(image, after.images[role])

    def test_a_seed_fixes_a_simulated_scene(self, ready: Robot) -> None:
        """The same seed gives the same start, whatever was done before."""
        if not ready.embodiment.simulated:
            return
        start = ready.observe()
        ready.apply(self.still_action(ready))
        ready.start_episode(self.seed)
        again = ready.observe()
        np.testing.assert_array_equal(start.state, again.state)
        assert start.instruction == again.instruction

    def test_the_control_loop_runs_an_episode(self, ready: Robot) -> None:
        """The episode is run as `posa robot run` does it, with a policy that keeps the robot where it is."""
        policy = _Standing(self.still_action(ready), ready.embodiment.action_frame)
        report = run_episode(ready, policy, seed=self.seed, way=Execution(execute=2, max_steps=3))
        assert report.steps == 3
        assert not report.holds, "readings and actions were in time, and complete"
