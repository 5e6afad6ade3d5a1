"""A robot with no way to move anything: for a policy on the robot's computer before it may touch the robot."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.robot.control.pictures import Sizes
from posa_vla.robot.control.robot import Reading, RobotOptions, require_action, synthetic_reading


class DryRunRobot:
    """Checks and counts the actions that it is given, at the robot's control rate; see the Robot protocol.

    It holds no transport, so there is nothing that an action could reach. Its readings are synthetic.

    Attributes:
        applied: Actions that were acceptable.
        held: Control periods held.
    """

    def __init__(
        self,
        options: RobotOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.embodiment = load_embodiment(options.embodiment)
        self.can_move = False
        self.applied = 0
        self.held = 0
        self._options = options
        self._clock = clock
        self._sleep = sleep
        self._steps = 0
        self._due = 0.0

    def camera_sizes(self) -> Sizes:
        """Squares of the size that it was opened with."""
        side = self._options.image_size
        return dict.fromkeys(self.embodiment.cameras, (side, side))

    def connect(self) -> None:
        """Nothing to open."""

    def start_episode(self, seed: int) -> None:
        """Starts counting steps anew."""
        self._steps = 0
        self._due = self._clock()

    def now(self) -> float:
        """Seconds of the computer's monotonic clock."""
        return self._clock()

    def observe(self) -> Reading:
        """Grey images and a state in the middle of its range."""
        options = self._options
        reading = synthetic_reading(self.embodiment, options.image_size, options.task, self._clock())
        ended = self._steps >= options.max_steps
        return Reading(reading.time, reading.images, reading.state, reading.instruction, None, ended)

    def apply(self, action: NDArray[np.float32]) -> None:
        """Checks the action, counts it, and lets one control period pass."""
        require_action(self.embodiment, action)
        self.applied += 1
        self._wait()

    def hold(self) -> None:
        """Lets one control period pass."""
        self.held += 1
        self._wait()

    def _wait(self) -> None:
        self._steps += 1
        self._due = max(self._due + 1 / self.embodiment.control_hz, self._clock())
        self._sleep(self._due - self._clock() if self._due > self._clock() else 0.0)

    def disconnect(self) -> None:
        """Nothing to close."""
