"""The plan of an ablation: pre-registered variants, seeds, scenes, budget, and the order in which it is carried out."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.schema import Closed, parse
from posa_vla.seeds import EVALUATION_SEEDS, TUNING_SEEDS, scene_seeds
from posa_vla.yaml_file import read_yaml

# What the tuning's scenes are drawn for, where a condition's are drawn for the condition.
TUNING = "tuning"
# The first condition again, on the same scenes, with what the tuning found best for the variant alone.
OWN_EXECUTION = "own-execution"
_SINCE_VERSION_2 = {"variants", "start_noise", "flow_steps", "execution", "own_executions"}


class TunedExecution(Closed):
    """What of an execution is tuned: scale of the noise that the flow starts from, and number of its steps."""

    start_noise: float = Field(ge=0)
    flow_steps: int = Field(ge=1)


class TuningPlan(Closed):
    """What is tried, for each variant alike, and what was chosen of it.

    Attributes:
        learning_rates: Tried, one training each.
        steps: Of these trainings.
        seed: Of these trainings; it is no training seed of the plan.
        scenes: How many, in `TUNING_SEEDS`.
        chosen: Variant -> learning rate; the reference's for one that is not named.
        variants: Those that are tuned; those of the quick run if empty.
        start_noise: Tried with each of `flow_steps` on each variant's best policy.
        flow_steps: See `start_noise`.
        execution: What all variants are run with; the preset's own if None.
        own_executions: Variant -> what did best for it alone, where that is another one: it is run so besides.
    """

    learning_rates: list[float] = Field(min_length=1)
    steps: int = Field(gt=0)
    seed: int
    scenes: int = Field(gt=0)
    chosen: dict[str, float]
    variants: list[str] = Field(default_factory=list)
    start_noise: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    flow_steps: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    execution: TunedExecution | None = None
    own_executions: dict[str, TunedExecution] = Field(default_factory=dict)

    @property
    def executions(self) -> list[TunedExecution]:
        """All that are tried."""
        return [TunedExecution(start_noise=n, flow_steps=s) for n in self.start_noise for s in self.flow_steps]


class AblationPlan(Closed):
    """See `plan.yaml`, which explains each key. Version 1 has no execution of its own."""

    schema_version: Literal[1, 2] = 2
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    quick: list[str] = Field(min_length=2)
    reference: str
    training_seeds: list[int] = Field(min_length=1)
    scenes: int = Field(gt=0)
    held_out: list[str]
    variants: dict[str, dict[str, Any]]
    tuning: TuningPlan
    conditions: dict[str, dict[str, Any]] = Field(min_length=1)
    demonstrations: list[int]

    @model_validator(mode="after")
    def _named(self) -> AblationPlan:
        tuning = self.tuning
        for name in [*self.quick, self.reference]:
            if name not in self.variants:
                raise ValueError(f"{name!r} is no variant, expected one of {sorted(self.variants)}")
        for key in ("chosen", "variants", "own_executions"):
            for name in getattr(tuning, key):
                if name not in self.variants:
                    raise ValueError(f"tuning.{key}: {name!r} is no variant, expected one of {sorted(self.variants)}")
        if len(set(self.training_seeds)) < len(self.training_seeds):
            raise ValueError(f"training_seeds {self.training_seeds} name one seed twice")
        if tuning.seed in self.training_seeds:
            raise ValueError(f"tuning.seed {tuning.seed} is one of training_seeds: a seed that chooses never decides")
        for name in (TUNING, OWN_EXECUTION):
            if name in self.conditions:
                raise ValueError(f"{name!r} is no name of a condition: the tuning's scenes or rows are named so")
        if self.reference not in tuning.chosen:
            raise ValueError(f"tuning.chosen lacks the reference {self.reference!r}")
        if self.schema_version == 1 and any(getattr(tuning, key) for key in _SINCE_VERSION_2):
            raise ValueError(f"tuning.{', '.join(sorted(_SINCE_VERSION_2))} need schema_version 2")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the plan."""
        unknown_then = {"tuning": _SINCE_VERSION_2} if self.schema_version == 1 else None
        return sha256_json(self.model_dump(mode="json", exclude=unknown_then))

    @property
    def first(self) -> str:
        """The condition that everything is run under first."""
        return next(iter(self.conditions))


def load_plan(path: Path | None = None) -> AblationPlan:
    """Reads a plan; the shipped one if None.

    Raises:
        BadInput: The file is missing, or is no plan.
    """
    place = path or Path(str(importlib.resources.files("posa_vla") / "evaluation" / "ablation" / "plan.yaml"))
    return parse(AblationPlan, read_yaml(place), str(place))


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        variant: Name in the plan.
        seed: Seed of the training.
        demonstrations: Episodes that it is trained on.
    """

    variant: str
    seed: int
    demonstrations: int

    @property
    def name(self) -> str:
        """Names the training among the plan's."""
        return f"{self.variant}, {self.demonstrations} demonstrations, seed {self.seed}"


@dataclass(frozen=True)
class Turn:
    """A training, and the conditions that its policy is run under in this turn."""

    cell: Cell
    conditions: tuple[str, ...]


def turns(plan: AblationPlan, params: Params, *, full: bool) -> list[Turn]:
    """All that a plan asks for, in the order in which it is done.

    The quick run comes first. The full one has besides: all other variants under the first condition, then the other
    conditions, then other numbers of demonstrations.
    """
    everything, seeds = params.collect.episodes, plan.training_seeds
    first, *others = plan.conditions

    def begin(variant: str, seed: int) -> Turn:
        own = (OWN_EXECUTION,) if variant in plan.tuning.own_executions else ()
        return Turn(Cell(variant, seed, everything), (first, *own))

    quick = [begin(variant, seed) for seed in seeds for variant in plan.quick]
    if not full:
        return quick
    rest = [begin(variant, seed) for variant in plan.variants if variant not in plan.quick for seed in seeds]
    again = [Turn(turn.cell, tuple(others)) for turn in [*quick, *rest] if others]
    fewer = [number for number in plan.demonstrations if number != everything]
    scaled = [Turn(Cell(v, seed, number), (first,)) for number in fewer for seed in seeds for v in plan.quick]
    return [*quick, *rest, *again, *scaled]


def cell_params(plan: AblationPlan, params: Params, cell: Cell, learning_rate: float | None = None) -> Params:
    """Parameters of one training; with a learning rate to try, of a training of the tuning.

    Raises:
        BadInput: The variant's overlay names an unknown key.
    """
    rate = learning_rate or plan.tuning.chosen.get(cell.variant, plan.tuning.chosen[plan.reference])
    over: dict[str, Any] = {
        "collect": {"episodes": cell.demonstrations, "held_out": plan.held_out},
        "train": {"seed": cell.seed, "learning_rate": rate},
    }
    if learning_rate is not None:
        over["train"] |= {"steps": min(plan.tuning.steps, params.train.steps)}
    return overlaid(overlaid(params, plan.variants[cell.variant], f"variant {cell.variant}"), over, cell.name)


def execution_under(plan: AblationPlan, condition: str, variant: str) -> TunedExecution | None:
    """What a variant is run with under a condition; the preset's own if None."""
    return plan.tuning.own_executions[variant] if condition == OWN_EXECUTION else plan.tuning.execution


def condition_params(
    plan: AblationPlan,
    params: Params,
    condition: str,
    execution: TunedExecution | None = None,
    episodes: int | None = None,
) -> Params:
    """Parameters of an evaluation under a condition."""
    over: dict[str, Any] = {"held_out": plan.held_out, "episodes": episodes or plan.scenes, "videos": 1}
    over |= plan.conditions[scenes_condition(plan, condition)]
    over |= execution.model_dump() if execution is not None else {}
    return overlaid(params, {"evaluate": over}, f"condition {condition}")


def scenes_condition(plan: AblationPlan, condition: str) -> str:
    """The condition of the plan whose scenes are run."""
    return plan.first if condition == OWN_EXECUTION else condition


def plan_scenes(plan: AblationPlan, purpose: str, count: int) -> list[int]:
    """Scene seeds that follow from plan and purpose alone; those of the purpose `TUNING` decide nothing."""
    among = TUNING_SEEDS if purpose == TUNING else EVALUATION_SEEDS
    return scene_seeds(f"{plan.name}:{purpose}", count, among)
