"""A robot in simulation, behind the same protocol as a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, to_install
from posa_vla.robot.control.pictures import Sizes
from posa_vla.robot.control.robot import DriverOptions, Reading, RobotOptions, require_action

if TYPE_CHECKING:
    from posa_vla.sim.environment import TaskEnvironment


class SimulatedOptions(DriverOptions):
    """What the scene of a simulated robot is."""

    objects: int = Field(default=3, ge=1, description="Objects of the scene.")


class SimulatedRobot:
    """A task's Gymnasium environment as a robot; see the Robot protocol.

    Its clock is the simulation's: one control period a step, and no time passes while a policy thinks.
    """

    Options = SimulatedOptions

    def __init__(self, options: RobotOptions) -> None:
        self.embodiment = load_embodiment(options.embodiment)
        self.can_move = True
        self._options = options
        self._environment: TaskEnvironment | None = None
        self._time = 0.0
        self._reading: Reading | None = None

    def camera_sizes(self) -> Sizes:
        """Squares of the size that it was opened with."""
        side = self._options.image_size
        return dict.fromkeys(self.embodiment.cameras, (side, side))

    def connect(self) -> None:
        """Builds the simulation.

        Raises:
            BadInput: The simulator's packages or the OpenGL library are missing, or the task is unknown.
        """
        if self._environment is not None:
            return
        try:
            from posa_vla.sim.environment import make_environment
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("posa_vla"):
                raise
            raise BadInput(f"the simulated robot needs the package {error.name!r}: {to_install('sim')}") from None
        options = self._options
        self._environment = make_environment(
            options.embodiment,
            options.task,
            image_size=options.image_size,
            objects=options.objects,
            max_steps=options.max_steps,
        )

    def _connected(self) -> TaskEnvironment:
        if self._environment is None:
            raise BadInput("the simulated robot is not connected: call connect() first")
        return self._environment

    def _read(self, observation: dict[str, Any], info: dict[str, Any], ended: bool) -> None:
        self._reading = Reading(
            time=self._time,
            images=observation["images"],
            state=observation["state"],
            instruction=info["instruction"],
            success=bool(info["success"]),
            ended=ended,
        )

    def start_episode(self, seed: int) -> None:
        """Sets up the scene of the seed."""
        observation, info = self._connected().reset(seed=seed)
        self._read(observation, info, ended=False)

    def now(self) -> float:
        """Seconds of simulated time since construction."""
        return self._time

    def observe(self) -> Reading:
        """The simulation as it stands."""
        if self._reading is None:
            raise BadInput("the simulated robot has no scene yet: call start_episode(seed) first")
        return self._reading

    def apply(self, action: NDArray[np.float32]) -> None:
        """Steps the simulation by one control period."""
        require_action(self.embodiment, action)
        observation, _, terminated, truncated, info = self._connected().step(action)
        self._time += 1 / self.embodiment.control_hz
        self._read(observation, info, ended=terminated or truncated)

    def hold(self) -> None:
        """Steps with no motion commanded: zero for a delta, the measured value for a channel that the state has too."""
        if self._environment is None or self._reading is None:
            return
        self.apply(self._standing())

    def _standing(self) -> NDArray[np.float32]:
        state = dict(zip((c.name for c in self.embodiment.state), self.observe().state.tolist(), strict=True))
        low, high = self.embodiment.action_limits()
        wanted = np.array([state.get(c.name, 0.0) for c in self.embodiment.action], np.float32)
        return np.clip(wanted, low, high)

    def disconnect(self) -> None:
        """Frees the simulation."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
