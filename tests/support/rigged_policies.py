"""Policies whose answers a test knows beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from posa_vla.policy.policy import ActionChunk, Observation


class RiggedPolicy:
    """Answers with what a function of the observation says, float32 (H, A)."""

    digest = "r" * 64
    flow_steps = None

    def __init__(
        self,
        answer: Callable[[Observation], NDArray[np.float32]],
        horizon: int,
        look_at: Callable[[Observation], dict[str, NDArray[np.float32]]] | None = None,
    ) -> None:
        self._answer, self.horizon, self._look_at = answer, horizon, look_at

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
        actions = np.stack([self._answer(observation) for observation in batch]).astype(np.float32)
        maps = None
        if attention and self._look_at is not None:
            looked = [self._look_at(observation) for observation in batch]
            maps = {role: np.stack([each[role] for each in looked]) for role in looked[0]}
        return ActionChunk(actions, "base", maps)
