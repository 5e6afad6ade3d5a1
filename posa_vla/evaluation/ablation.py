"""The plan of an ablation, and what its rollouts say: pre-registered variants, seeds, scenes and budget."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from posa_vla.evidence.evidence import EpisodeRow
from posa_vla.evidence.paired import mean_interval, ratio_interval, success_difference, success_interval
from posa_vla.files import sha256_json
from posa_vla.params import Params, overlaid
from posa_vla.schema import Closed, parse, read_yaml
from posa_vla.seeds import scene_seeds

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
    """See `ablation.yaml`, which explains each key."""

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
        BadInput: It is missing, or no plan.
    """
    place = path or Path(str(importlib.resources.files("posa_vla") / "evaluation" / "ablation.yaml"))
    return parse(AblationPlan, read_yaml(place), str(place))


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        variant: Name in the plan.
        seed: Of the training.
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
    """Scene seeds that follow from plan and purpose alone: a condition, or `TUNING`, which takes none of theirs."""
    judged = set[int]()
    if purpose == TUNING:
        judged = {seed for condition in plan.conditions for seed in plan_scenes(plan, condition, plan.scenes)}
    return scene_seeds(f"{plan.name}:{purpose}", count, judged)


# Rows of one group of trainings that differ in their seed alone: seed -> rows in the order of the scenes.
Group = Mapping[int, Sequence[EpisodeRow]]


@dataclass(frozen=True)
class _Arrays:
    """Values (S, N) over training seeds and scenes; those of a failure are NaN but for `success`."""

    success: NDArray[np.float64]
    steps: NDArray[np.float64]
    path: NDArray[np.float64]
    jerk: NDArray[np.float64]


def _arrays(group: Group) -> _Arrays:
    rows = [list(group[seed]) for seed in sorted(group)]

    def values(name: str) -> NDArray[np.float64]:
        def value(row: EpisodeRow) -> float:
            found = getattr(row, name)
            return float(found) if row.success and found is not None else np.nan

        return np.array([[value(row) for row in line] for line in rows])

    success = np.array([[float(row.success) for row in line] for line in rows])
    return _Arrays(success, values("steps"), values("path_length"), values("jerk"))


def group_figures(group: Group, expert: Mapping[int, tuple[int, float]]) -> dict[str, Any]:
    """Figures of one variant under one condition, with 95 % intervals over training seeds and scenes.

    Args:
        group: Its rows.
        expert: Scene seed -> steps and path length (m) of the scripted expert, where it solved the scene.

    Returns:
        `success`, `steps`, `path_over_expert` and `jerk`, the last three of solved scenes; `by_seed`, success rates.
    """
    arrays = _arrays(group)
    scenes = [row.scene_seed for row in next(iter(group.values()))]
    ours = np.array([expert[seed][1] if seed in expert else np.nan for seed in scenes])
    return {
        "success": success_interval(arrays.success).to_json(),
        "steps": mean_interval(arrays.steps).to_json(),
        "path_over_expert": mean_interval(arrays.path / ours[None]).to_json(),
        "jerk": mean_interval(arrays.jerk).to_json(),
        "by_seed": {str(seed): float(arrays.success[i].mean()) for i, seed in enumerate(sorted(group))},
        "scenes": len(scenes),
    }


def compare_groups(reference: Group, other: Group) -> dict[str, Any]:
    """The reference against another variant on the same scenes.

    Returns:
        `success_difference` (reference minus other, 0 to 1) and `steps_ratio` (reference over other, on scenes that
        both solve with the training seeds of the same rank), 95 % intervals; `both_solved`, how many of those.
    """
    ours, theirs = _arrays(reference), _arrays(other)
    paired = min(len(ours.success), len(theirs.success))
    both = (ours.success[:paired] > 0) & (theirs.success[:paired] > 0)
    return {
        "success_difference": success_difference(ours.success, theirs.success).to_json(),
        "steps_ratio": ratio_interval(ours.steps[:paired], theirs.steps[:paired], both).to_json(),
        "both_solved": int(both.sum()),
    }
