"""Choose what an ablation's variants are trained and run with, on scenes and a training seed that decide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from posa_vla.console import say
from posa_vla.evaluation.ablation.plan import TUNING, AblationPlan, Cell, TunedExecution, condition_params, plan_scenes
from posa_vla.params import Params
from posa_vla.pipeline.ablation import Ablation, open_ablation, rolled_out, trained
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class Tried(Closed):
    """A learning rate that was tried, or an execution of the policy that the best one gave.

    Attributes:
        variant: Variant of the plan.
        learning_rate: Of its training.
        execution: How the policy was run; the preset's own if None, as all learning rates are.
        success: Share of the scenes that it solved.
        steps: Mean over all scenes; a failure counts as the step limit.
        scenes: How many there were.
    """

    variant: str
    learning_rate: float
    execution: TunedExecution | None
    success: float
    steps: float
    scenes: int

    @property
    def name(self) -> str:
        """What was tried, in words."""
        way = self.execution
        words = f"{self.variant}, learning rate {self.learning_rate:g}"
        return words if way is None else f"{words}, start noise {way.start_noise:g}, flow steps {way.flow_steps}"


class Tuned(Closed):
    """What a tuning tried, and what it chose: its three last fields are the plan's, under `tuning`.

    Attributes:
        tried: All of it.
        chosen: Variant -> learning rate.
        execution: Of all variants, so that all are run alike; None where none was tried.
        own_executions: Variant -> what did best for it alone, where that is another one.
    """

    tried: list[Tried]
    chosen: dict[str, float]
    execution: TunedExecution | None
    own_executions: dict[str, TunedExecution]


def choose(tried: Sequence[Tried]) -> Tuned:
    """What did best: the most scenes solved; of equals the fewest steps; of those what was tried first.

    The execution of all is the one that did best on average over the variants.
    """
    variants = list(dict.fromkeys(row.variant for row in tried))
    rates = {v: _best(row for row in tried if row.variant == v and row.execution is None) for v in variants}
    ways: dict[TunedExecution, list[Tried]] = {}
    for row in tried:
        if row.execution is not None:
            ways.setdefault(row.execution, []).append(row)

    shared = _best_way(ways) if ways else None
    own = {v: _best_way({w: [r for r in rows if r.variant == v] for w, rows in ways.items()}) for v in variants if ways}
    return Tuned(
        tried=list(tried),
        chosen={variant: row.learning_rate for variant, row in rates.items()},
        execution=shared,
        own_executions={variant: way for variant, way in own.items() if way != shared},
    )


def _best(tried: Iterable[Tried]) -> Tried:
    return max(tried, key=lambda row: (row.success, -row.steps))


def _best_way(ways: Mapping[TunedExecution, Sequence[Tried]]) -> TunedExecution:
    return max(ways, key=lambda way: (sum(r.success for r in ways[way]), -sum(r.steps for r in ways[way])))


def tune(ablation: Ablation) -> Tuned:
    """Tries every learning rate for every variant that is tuned, and every execution on the best policy of each."""
    plan, params, tried = ablation.plan, ablation.params, list[Tried]()
    for variant in plan.tuning.variants or plan.quick:
        cell = Cell(variant, plan.tuning.seed, params.collect.episodes)
        bundles = {rate: trained(ablation, cell, rate)[0].digest for rate in plan.tuning.learning_rates}
        rows = [_run(ablation, cell, digest, rate, None) for rate, digest in bundles.items()]
        rate = _best(rows).learning_rate
        rows += [_run(ablation, cell, bundles[rate], rate, way) for way in plan.tuning.executions]
        tried += rows
    return choose(tried)


def _run(ablation: Ablation, cell: Cell, digest: str, rate: float, way: TunedExecution | None) -> Tried:
    plan = ablation.plan
    scenes = plan_scenes(plan, TUNING, plan.tuning.scenes)
    rows = rolled_out(ablation, cell, digest, plan.first, way, scenes).rows
    limit = condition_params(plan, ablation.params, plan.first).evaluate.max_steps
    success = sum(row.success for row in rows) / len(rows)
    steps = sum(row.steps if row.success else limit for row in rows) / len(rows)
    done = Tried(
        variant=cell.variant, learning_rate=rate, execution=way, success=success, steps=steps, scenes=len(rows)
    )
    say(f"tuning {done.name}: {success:.0%} of {len(rows)} scenes, {steps:.1f} steps")
    return done


def run_tuning(workspace: Workspace, params: Params, plan: AblationPlan) -> Tuned:
    """`tune` on a workspace; the same call continues where an earlier one was stopped.

    Raises:
        BadInput: A variant or a condition of the plan fits no parameters.
    """
    with open_ablation(workspace, params, plan) as ablation:
        return tune(ablation)
