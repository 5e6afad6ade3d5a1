"""How action chunks become one action a control step: executed horizon, temporal ensembling, committed prefix."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from posa_vla.errors import BadInput
from posa_vla.params import EvaluateParams
from posa_vla.policy.policy import ActionChunk, Observation, Policy
from posa_vla.schema import Closed

Source = TypeVar("Source")


class Execution(Closed):
    """How a policy's chunks become actions, and for how long: evidence is made with it, and a release fixes it.

    The fields' defaults are what was meant before records had the field. They never change, whatever new policies are
    made for (`EvaluateParams`).

    Attributes:
        execute: Actions taken of each chunk before the policy looks again, at most its horizon.
        committed: Actions that go on being executed while the policy thinks: they are the coming chunk's prefix, which
            it must continue (inpainting, as in real-time chunking, Black et al. 2025). 0: the robot waits.
        ensemble: Looks at each step, and averages what all chunks say of it with weights exp(-ensemble * i), i = 0 the
            oldest (temporal ensembling, Zhao et al. 2023); not at all if None.
        flow_steps: Integration steps of the policy's flow; None for a policy that has no flow, or the policy's own.
        start_noise: Scale of the noise that the flow starts from; 1 is what the policy was trained with.
        max_steps: Control steps after which an episode is over.
    """

    execute: int
    committed: int = 0
    ensemble: float | None = None
    flow_steps: int | None = None
    start_noise: float = 1.0
    max_steps: int = 60

    # Not by the fields' own bounds: a flag that does not fit is one clear message, as in every other place.
    @model_validator(mode="after")
    def _possible(self) -> Execution:
        if self.execute < 1 or self.committed < 0:
            raise BadInput(f"execute {self.execute} and committed {self.committed}: expected at least 1 and 0")
        if self.ensemble is not None and self.committed:
            raise BadInput("an ensemble looks at every step: it cannot be had with committed actions")
        if self.ensemble is not None and self.ensemble < 0:
            raise BadInput(f"ensemble {self.ensemble}: expected at least 0")
        if self.flow_steps is not None and self.flow_steps < 1:
            raise BadInput(f"flow_steps {self.flow_steps}: expected at least 1")
        if self.start_noise < 0:
            raise BadInput(f"start_noise {self.start_noise}: expected at least 0")
        if self.max_steps < 1:
            raise BadInput(f"max_steps {self.max_steps}: expected at least 1")
        return self

    def otherwise(self, other: Execution) -> dict[str, tuple[object, object]]:
        """Field -> (its value here, its value there), of what decides how a policy acts; the step limit does not."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in JUDGED}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# What decides how a policy acts. The sixth field, `max_steps`, is a condition of the scenes that it is tried on.
JUDGED = ("execute", "committed", "ensemble", "flow_steps", "start_noise")
# With which policies were run before bundles said it. It never changes either.
UNRECORDED = Execution(execute=4)


def execution_of(params: EvaluateParams, flow_steps: int | None) -> Execution:
    """The execution that an evaluation's parameters ask for.

    Args:
        params: Of the evaluation.
        flow_steps: The policy's own (`Policy.flow_steps`); they count where the parameters name none.

    Raises:
        BadInput: The parameters name flow steps for a policy that has no flow.
    """
    if params.flow_steps is not None and flow_steps is None:
        raise BadInput(f"evaluate.flow_steps {params.flow_steps}: the policy has no flow: leave it out")
    return Execution(
        execute=params.execute,
        committed=params.committed,
        ensemble=params.ensemble,
        flow_steps=flow_steps if params.flow_steps is None else params.flow_steps,
        start_noise=params.start_noise,
        max_steps=params.max_steps,
    )


def asked_execution(params: EvaluateParams, own: Execution) -> Execution:
    """The execution that an evaluation's parameters ask for of a policy that has its own: what they name counts.

    Args:
        params: Of the evaluation. The step limit is always theirs.
        own: What the policy was judged with or made for.

    Raises:
        BadInput: The parameters name flow steps for a policy that has no flow, or what does not go together.
    """
    named = params.model_copy(update=own.model_dump(include=set(JUDGED) - params.model_fields_set))
    return execution_of(named, own.flow_steps)


@dataclass(frozen=True)
class Planned(Generic[Source]):
    """An action, and what it was made from.

    Attributes:
        action: float32 (A,), physical units.
        index: Control steps after the look that its chunk comes from.
        source: What that look was taken with.
    """

    action: NDArray[np.float32]
    index: int
    source: Source


@dataclass(frozen=True)
class Asked:
    """A question to a policy.

    Attributes:
        observation: What is seen.
        committed: float32 (1, K, A), the prefix that the chunk continues, or None.
        seed: Of the policy's randomness.
    """

    observation: Observation
    committed: NDArray[np.float32] | None
    seed: int


@dataclass
class _Look(Generic[Source]):
    chunk: ActionChunk
    source: Source
    index: int = 0


@dataclass
class ChunkExecutor(Generic[Source]):
    """Asks a policy for chunks, one observation at a time, and hands out one action a control step.

    Attributes:
        policy: Asked with the seed that `seed` gives for the number of the look; sampled as `way` says.
        way: See `Execution`.
        seed: Number of the look -> seed.
        background: Where the policy thinks while committed actions are executed; the caller's own thread if None. The
            actions are the same either way.
        attention: Whether the policy is asked for its attention.
        latencies_ms: Wall time of every inference.
    """

    policy: Policy
    way: Execution
    seed: Callable[[int], int]
    background: Executor | None = None
    attention: bool = False
    latencies_ms: list[float] = field(default_factory=list)
    _looks: list[_Look[Source]] = field(default_factory=list)
    _pending: tuple[Future[ActionChunk] | ActionChunk, Source, int] | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        # A chunk starts with the committed actions of the last one, gives one of its own, and has as many left.
        if 2 * self.way.committed + 1 > self.policy.horizon:
            raise BadInput(
                f"{self.way.committed} committed actions of a chunk of {self.policy.horizon}: expected at most "
                f"{(self.policy.horizon - 1) // 2}"
            )
        self._execute = min(self.way.execute, self.policy.horizon - self.way.committed)
        self.policy = self.policy.with_flow(self.way.flow_steps, self.way.start_noise)

    @property
    def due(self) -> bool:
        """Whether the next action needs a new look."""
        if self.way.ensemble is not None or not self._looks:
            return True
        return self._pending is None and self._looks[-1].index >= self._execute

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk that actions were taken of."""
        return self._looks[-1].chunk if self._looks else None

    def forget(self) -> None:
        """Drops what was planned: the robot held, and is no longer where the plan began."""
        self._looks, self._pending = [], None

    def request(self, observation: Observation) -> Asked | None:
        """What the policy is asked for the coming control step; None where the step needs no look.

        Args:
            observation: What is seen now.
        """
        if not self.due:
            return None
        committed = None
        if self._looks and self.way.committed:
            begin = self._looks[-1].index
            committed = self._looks[-1].chunk.actions[:, begin : begin + self.way.committed]
        return Asked(observation, committed, self.seed(self._count))

    def next(self, observation: Observation, source: Source, answer: ActionChunk | None = None) -> Planned[Source]:
        """The action of the coming control step.

        Args:
            observation: What is seen now; the policy looks at it only where `due`.
            source: Comes back with the actions that are made from this observation.
            answer: The policy's answer to this step's `request`, where the caller has asked it himself.

        Raises:
            BadInput: The observation does not fit the policy.
        """
        asked = self.request(observation)
        self._count += asked is not None
        if self.way.ensemble is not None:
            assert asked is not None  # an ensemble looks at every step
            return self._averaged(self._ask(asked) if answer is None else answer, source)
        if asked is not None:
            self._look(asked, source, answer)
        if self._pending is not None:
            given, seen, begin = self._pending
            if not self._looks or self._looks[-1].index - begin >= self.way.committed:
                chunk = given if isinstance(given, ActionChunk) else given.result()
                index = self._looks[-1].index - begin if self._looks else 0
                self._looks, self._pending = [_Look(chunk, seen, index)], None
        current = self._looks[-1]
        action = current.chunk.actions[0, current.index]
        current.index += 1
        return Planned(action, current.index - 1, current.source)

    def _look(self, asked: Asked, source: Source, answer: ActionChunk | None) -> None:
        begin = self._looks[-1].index if asked.committed is not None else 0
        if self._looks and not self.way.committed:
            self._looks = []
        given: Future[ActionChunk] | ActionChunk
        if answer is not None:
            given = answer
        elif asked.committed is not None and self.background is not None:
            given = self.background.submit(self._ask, asked)
        else:
            given = self._ask(asked)
        self._pending = (given, source, begin)

    def _ask(self, asked: Asked) -> ActionChunk:
        start = time.perf_counter()
        chunk = self.policy.act(
            [asked.observation], committed=asked.committed, seed=asked.seed, attention=self.attention
        )
        self.latencies_ms.append(1000 * (time.perf_counter() - start))
        return chunk

    def _averaged(self, chunk: ActionChunk, source: Source) -> Planned[Source]:
        self._looks.append(_Look(chunk, source))
        self._looks = [look for look in self._looks if look.index < look.chunk.actions.shape[1]]
        said = np.stack([look.chunk.actions[0, look.index] for look in self._looks])
        for look in self._looks:
            look.index += 1
        return Planned(ensembled(said, self.way.ensemble or 0.0), 0, source)


def ensembled(actions: NDArray[np.float32] | Sequence[NDArray[np.float32]], coefficient: float) -> NDArray[np.float32]:
    """Mean of (N, A) actions, the oldest first, with weights exp(-coefficient * i)."""
    rows = np.asarray(actions, np.float32)
    weights = np.exp(-coefficient * np.arange(len(rows)))
    mean: NDArray[np.float32] = (weights[:, None] * rows).sum(0).astype(np.float32) / np.float32(weights.sum())
    return mean
