"""What a tuning chooses of what it tried."""

from __future__ import annotations

from posa_vla.evaluation.ablation.plan import TunedExecution
from posa_vla.pipeline.ablation_tuning import Tried, choose


def tried(variant: str, rate: float, success: float, steps: float, way: TunedExecution | None = None) -> Tried:
    return Tried(variant=variant, learning_rate=rate, execution=way, success=success, steps=steps, scenes=100)


def test_each_variant_has_its_best_rate_and_all_have_one_execution() -> None:
    calm, noisy = TunedExecution(start_noise=0, flow_steps=2), TunedExecution(start_noise=1, flow_steps=6)
    found = choose(
        [
            tried("full", 0.001, 0.8, 30),
            tried("full", 0.002, 0.8, 25),
            tried("full", 0.002, 0.9, 20, calm),
            tried("full", 0.002, 0.7, 25, noisy),
            tried("bare", 0.001, 0.2, 50),
            tried("bare", 0.002, 0.1, 40),
            tried("bare", 0.001, 0.2, 50, calm),
            tried("bare", 0.001, 0.3, 45, noisy),
        ]
    )
    assert found.chosen == {"full": 0.002, "bare": 0.001}, "of equal success the fewer steps"
    assert found.execution == calm, "the better one on average"
    assert found.own_executions == {"bare": noisy}


def test_no_execution_is_chosen_where_none_was_tried() -> None:
    found = choose([tried("full", 0.001, 0.8, 30)])
    assert (found.execution, found.own_executions) == (None, {})
