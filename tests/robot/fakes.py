"""A robot with its own clock and a policy with scripted actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from factories import make_embodiment
from numpy.typing import NDArray

from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.robot.control.robot import Reading, require_action, synthetic_reading

SIZE = 16


class FakeRobot:
    """Records what reaches it; `disturb` changes its readings by their index."""

    def __init__(
        self,
        *,
        end_after: int = 10**9,
        disturb: Callable[[int, Reading], Reading] | None = None,
        size: int = SIZE,
    ) -> None:
        self.embodiment = make_embodiment()
        self.can_move = True
        self.applied: list[NDArray[np.float32]] = []
        self.held = 0
        self.time = 0.0
        self._end_after = end_after
        self._size = size
        self._disturb = disturb or (lambda index, reading: reading)
        self._observed = 0

    def connect(self) -> None: ...

    def start_episode(self, seed: int) -> None: ...

    def now(self) -> float:
        return self.time

    def observe(self) -> Reading:
        done = len(self.applied) + self.held >= self._end_after
        reading = synthetic_reading(self.embodiment, self._size, "pick", self.time)
        reading = self._disturb(self._observed, replace(reading, success=done, ended=done))
        self._observed += 1
        return reading

    def apply(self, action: NDArray[np.float32]) -> None:
        require_action(self.embodiment, action)
        self.applied.append(action)
        self.time += 1 / self.embodiment.control_hz

    def hold(self) -> None:
        self.held += 1
        self.time += 1 / self.embodiment.control_hz

    def disconnect(self) -> None: ...


class FakePolicy:
    """Gives the same chunk each time; `think` runs while it does."""

    digest = "f" * 64

    def __init__(self, chunk: Sequence[Sequence[float]], think: Callable[[], None] = lambda: None) -> None:
        self._chunk = np.array(chunk, np.float32)
        self._think = think
        self.seen: list[Observation] = []
        self.embodiment = make_embodiment()

    flow_steps = None

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        self.flow = (steps, start_noise)
        return self

    @property
    def horizon(self) -> int:
        return len(self._chunk)

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        self._think()
        self.seen.extend(batch)
        actions = np.repeat(self._chunk[None], len(batch), axis=0)
        if committed is not None:
            actions[:, : committed.shape[1]] = committed
        return ActionChunk(actions, "base")
