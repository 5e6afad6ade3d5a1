"""How chunks become actions."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from posa_vla.errors import BadInput
from posa_vla.params import EvaluateParams
from posa_vla.policy.execution import ChunkExecutor, Execution, ensembled, execution_of
from posa_vla.policy.policy import ActionChunk, Observation

HORIZON = 6


class Counting:
    """Says 100 * look + step, and continues a committed prefix with it."""

    digest = "c" * 64
    horizon = HORIZON
    flow_steps = None

    def __init__(self) -> None:
        self.flow: tuple[int | None, float] | None = None
        self.prefixes: list[list[float] | None] = []
        self.seeds: list[int] = []
        self.threads: set[int] = set()

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        self.flow = (steps, start_noise)
        return self

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int = 0,
        attention: bool = False,
    ) -> ActionChunk:
        values = 100.0 * len(self.prefixes) + np.arange(HORIZON, dtype=np.float32)
        if committed is not None:
            values[: committed.shape[1]] = committed[0, :, 0]
        self.prefixes.append(None if committed is None else committed[0, :, 0].tolist())
        self.seeds.append(seed)
        self.threads.add(threading.get_ident())
        return ActionChunk(values[None, :, None].astype(np.float32), "base")


def run(
    way: Execution, steps: int, thinker: ThreadPoolExecutor | None = None
) -> tuple[list[float], Counting, list[int]]:
    policy = Counting()
    planner: ChunkExecutor[int] = ChunkExecutor(policy, way, lambda look: 10 + look, thinker)
    seen = Observation({}, np.zeros(1, np.float32), "go")
    planned = [planner.next(seen, step) for step in range(steps)]
    return [float(p.action[0]) for p in planned], policy, [p.source + p.index for p in planned]


def test_the_executed_horizon_alone() -> None:
    actions, policy, times = run(Execution(execute=3), 7)
    assert actions == [0, 1, 2, 100, 101, 102, 200]
    assert policy.prefixes == [None, None, None]
    assert policy.seeds == [10, 11, 12]
    assert times == list(range(7)), "every action is the one of its own control step"


def test_more_than_a_chunk_holds_is_the_whole_chunk() -> None:
    assert run(Execution(execute=99), 8)[0] == [0, 1, 2, 3, 4, 5, 100, 101]


@pytest.mark.parametrize("beside", [False, True])
def test_committed_actions_go_on_while_the_policy_thinks(beside: bool) -> None:
    with ThreadPoolExecutor(1) as thinker:
        actions, policy, times = run(Execution(execute=3, committed=2), 9, thinker if beside else None)
    assert policy.prefixes == [None, [3, 4], [103, 104]]
    assert actions == [0, 1, 2, 3, 4, 102, 103, 104, 202]
    assert times == list(range(9))
    assert threading.get_ident() in policy.threads
    assert len(policy.threads) == (2 if beside else 1)


@pytest.mark.parametrize("execute", [1, 3, 99])
@pytest.mark.parametrize("committed", [0, 1, 2])
def test_any_prefix_that_is_accepted_goes_on_for_ever(execute: int, committed: int) -> None:
    _, policy, times = run(Execution(execute=execute, committed=committed), 50)
    assert times == list(range(50))
    assert all(len(prefix) == committed for prefix in policy.prefixes if prefix is not None)


def test_after_a_hold_everything_is_planned_anew() -> None:
    policy = Counting()
    planner: ChunkExecutor[int] = ChunkExecutor(policy, Execution(execute=3, committed=2), lambda look: look)
    seen = Observation({}, np.zeros(1, np.float32), "go")
    for step in range(4):
        planner.next(seen, step)
    planner.forget()
    assert planner.due
    assert float(planner.next(seen, 4).action[0]) == 200
    assert policy.prefixes == [None, [3, 4], None]


def test_an_ensemble_weighs_the_oldest_most() -> None:
    actions, _, _ = run(Execution(execute=1, ensemble=0.5), 3)
    weights = [1, math.exp(-0.5), math.exp(-1)]
    assert actions[0] == 0
    assert math.isclose(actions[1], (1 + 100 * weights[1]) / sum(weights[:2]), rel_tol=1e-5)
    assert math.isclose(actions[2], (2 + 101 * weights[1] + 200 * weights[2]) / sum(weights), rel_tol=1e-5)


def test_an_ensemble_forgets_chunks_that_say_nothing_of_now() -> None:
    actions, _, _ = run(Execution(execute=1, ensemble=0.0), HORIZON + 1)
    assert math.isclose(actions[-1], np.mean([100.0 * look + HORIZON - look for look in range(1, HORIZON + 1)]))


def test_without_a_coefficient_all_count_the_same() -> None:
    assert ensembled([np.array([1.0], np.float32), np.array([3.0], np.float32)], 0.0).tolist() == [2.0]


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"execute": 0}, "at least 1"),
        ({"execute": 1, "committed": -1}, "at least 1 and 0"),
        ({"execute": 1, "committed": 1, "ensemble": 0.1}, "every step"),
        ({"execute": 1, "ensemble": -0.1}, "ensemble -0.1"),
        ({"execute": 1, "flow_steps": 0}, "flow_steps 0: expected at least 1"),
        ({"execute": 1, "start_noise": -1}, "start_noise -1.0: expected at least 0"),
        ({"execute": 1, "max_steps": 0}, "max_steps 0: expected at least 1"),
        ({"execute": 1, "committed": HORIZON}, "chunk of 6: expected at most 2"),
        ({"execute": 1, "committed": 3}, "chunk of 6: expected at most 2"),
    ],
)
def test_ways_that_make_no_sense_are_named(way: dict[str, float], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(Execution(**way), 1)  # type: ignore[arg-type]  # a test's shorthand


def test_an_evaluation_s_parameters_and_the_policy_s_own_flow_make_an_execution() -> None:
    params = EvaluateParams(execute=3, committed=1, max_steps=40, start_noise=0.5)
    expected = Execution(execute=3, committed=1, max_steps=40, start_noise=0.5, flow_steps=6)
    assert execution_of(params, 6) == expected
    other = params.model_copy(update={"flow_steps": 2})
    assert execution_of(other, 6) == expected.model_copy(update={"flow_steps": 2})
    assert execution_of(params, None).flow_steps is None
    with pytest.raises(BadInput, match="no flow"):
        execution_of(other, None)


def test_the_policy_is_sampled_as_the_execution_says() -> None:
    assert run(Execution(execute=2, flow_steps=3, start_noise=0.5), 1)[1].flow == (3, 0.5)
