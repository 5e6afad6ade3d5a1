"""The plan of an ablation, and what its rollouts say: pre-registered variants, seeds, scenes and budget."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.schema import Closed, parse
from posa_vla.seeds import scene_seeds
from posa_vla.yaml_file import read_yaml

# What the tuning's scenes are drawn for, where a condition's are drawn for the condition.
TUNING = "tuning"


class TuningPlan(Closed):
    """How each variant's learning rate is chosen, the reference's like all others'."""

    learning_rates: list[float] = Field(min_length=1)
    steps: int = Field(gt=0)
    seed: int
    scenes: int = Field(gt=0)
    chosen: dict[str, float]


class AblationPlan(Closed):
    """See `plan.yaml`, which explains each key."""

    schema_version: Literal[1] = 1
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
        for name in [*self.quick, self.reference]:
            if name not in self.variants:
                raise ValueError(f"{name!r} is no variant, expected one of {sorted(self.variants)}")
        for name in self.tuning.chosen:
            if name not in self.variants:
                raise ValueError(f"tuning.chosen: {name!r} is no variant, expected one of {sorted(self.variants)}")
        if len(set(self.training_seeds)) < len(self.training_seeds):
            raise ValueError(f"training_seeds {self.training_seeds} name one seed twice")
        if TUNING in self.conditions:
            raise ValueError(f"{TUNING!r} is no name of a condition: the tuning draws its scenes under it")
        if self.reference not in self.tuning.chosen:
            raise ValueError(f"tuning.chosen lacks the reference {self.reference!r}")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the plan."""
        return sha256_json(self.model_dump(mode="json"))


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


def cells(plan: AblationPlan, params: Params, *, full: bool) -> list[Cell]:
    """The trainings of a plan; those of the quick run first."""
    everything = params.collect.episodes
    chosen = [Cell(variant, seed, everything) for seed in plan.training_seeds for variant in plan.quick]
    if full:
        rest = [variant for variant in plan.variants if variant not in plan.quick]
        chosen += [Cell(variant, seed, everything) for seed in plan.training_seeds for variant in rest]
        fewer = [number for number in plan.demonstrations if number != everything]
        chosen += [Cell(v, seed, number) for seed in plan.training_seeds for number in fewer for v in plan.quick]
    return chosen


def conditions_of(plan: AblationPlan, cell: Cell, params: Params, *, full: bool) -> list[str]:
    """Conditions that a training's policy is run under."""
    names = list(plan.conditions)
    return names if full and cell.demonstrations == params.collect.episodes else names[:1]


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


def condition_params(plan: AblationPlan, params: Params, condition: str, episodes: int | None = None) -> Params:
    """Parameters of an evaluation under a condition."""
    over = {"held_out": plan.held_out, **plan.conditions[condition], "episodes": episodes or plan.scenes, "videos": 1}
    return overlaid(params, {"evaluate": over}, f"condition {condition}")


def plan_scenes(plan: AblationPlan, purpose: str, count: int) -> list[int]:
    """Scene seeds that follow from plan and purpose alone; the purpose `TUNING` shares no scene with a condition."""
    judged = set[int]()
    if purpose == TUNING:
        judged = {seed for condition in plan.conditions for seed in plan_scenes(plan, condition, plan.scenes)}
    return scene_seeds(f"{plan.name}:{purpose}", count, judged)
