"""What an ablation found: its rows put together, and the files that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posa_vla.evaluation.ablation.figures import compare_groups, group_figures
from posa_vla.evaluation.ablation.plan import (
    AblationPlan,
    Cell,
    Turn,
    condition_params,
    scenes_condition,
    turns,
)
from posa_vla.evaluation.ablation.rows import TrainingRows, lines_json, rows_path
from posa_vla.evaluation.ablation.table import plot, table
from posa_vla.evidence.record import EpisodeRow
from posa_vla.files import write_text
from posa_vla.params import Params
from posa_vla.schema import Closed

# Variant, demonstrations and condition.
Place = tuple[str, int, str]


@dataclass
class Results:
    """Rows of the trainings that are done.

    Attributes:
        plan: What is compared.
        params: The preset that every variant starts from.
        trainings: Their rows.
        expert: Condition -> scene seed -> steps and path length of the expert.
    """

    plan: AblationPlan
    params: Params
    trainings: dict[Cell, TrainingRows] = field(default_factory=dict)
    expert: dict[str, Mapping[int, tuple[int, float]]] = field(default_factory=dict)

    def has(self, cell: Cell, condition: str) -> bool:
        """Whether a training's policy was run under a condition."""
        return cell in self.trainings and condition in self.trainings[cell].conditions

    def missing(self, turn: Turn) -> list[str]:
        """Conditions of a turn that its policy was not run under."""
        return [condition for condition in turn.conditions if not self.has(turn.cell, condition)]

    def groups(self) -> dict[Place, dict[int, Sequence[EpisodeRow]]]:
        """Place -> training seed -> rows, in the order of the plan."""
        groups: dict[Place, dict[int, Sequence[EpisodeRow]]] = {}
        for cell, condition in self._planned():
            if self.has(cell, condition):
                place = cell.variant, cell.demonstrations, condition
                groups.setdefault(place, {})[cell.seed] = self.trainings[cell].conditions[condition].rows()
        return groups

    def not_run(self) -> list[str]:
        """What the plan's full run has besides, in words."""
        return [f"{cell.name}, {condition}" for cell, condition in self._planned() if not self.has(cell, condition)]

    def _planned(self) -> list[tuple[Cell, str]]:
        everything = turns(self.plan, self.params, full=True)
        return [(turn.cell, condition) for turn in everything for condition in turn.conditions]


def _summary(results: Results) -> dict[str, Any]:
    plan, params, groups = results.plan, results.params, results.groups()
    variants, comparisons = [], []
    for (variant, demonstrations, condition), group in groups.items():
        place = {"variant": variant, "demonstrations": demonstrations, "condition": condition}
        limit = condition_params(plan, params, condition).evaluate.max_steps
        expert = results.expert[scenes_condition(plan, condition)]
        variants.append({**place, **group_figures(group, expert, limit)})
        # Run as for all, where it has no execution of its own.
        usual = groups.get((plan.reference, demonstrations, scenes_condition(plan, condition)))
        reference = groups.get((plan.reference, demonstrations, condition), usual)
        if variant != plan.reference and reference is not None:
            compared = {**place, "reference": plan.reference, **compare_groups(reference, group, limit)}
            comparisons.append(compared)
    trainings = results.trainings.values()
    return {
        "schema_version": 2,
        "plan": plan.model_dump(mode="json"),
        "plan_digest": plan.digest,
        # Keys of the plan are sorted here, and its first condition is not the first of them.
        "first": plan.first,
        "params": params.model_dump(mode="json"),
        "demonstrations": params.collect.episodes,
        "variants": variants,
        "comparisons": comparisons,
        "not_run": results.not_run(),
        "rows": sorted(rows_path(Path(), cell).as_posix() for cell in results.trainings),
        "training_seconds": round(sum(rows.seconds for rows in trainings), 1),
        "machines": sorted({rows.machine for rows in trainings}),
    }


class AblationReport(Closed):
    """What an ablation found, and the files that tell it.

    Attributes:
        results: Path of `results.json`; `table` of `table.md`, `plot` of `plot.png`.
        variants: See `group_figures`.
        comparisons: See `compare_groups`.
        not_run: What the full plan has besides, in words.
        figures: Numbers by name, for MLflow.
    """

    results: str
    table: str
    plot: str
    variants: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    not_run: list[str]
    figures: dict[str, float]


def write_report(results: Results, folder: Path) -> AblationReport:
    """Writes `results.json`, `table.md` and `plot.png` beside the rows."""
    summary = _summary(results)
    write_text(folder / "results.json", lines_json(summary))
    write_text(folder / "table.md", table(summary))
    plot(summary, folder / "plot.png")
    return AblationReport(
        results=str(folder / "results.json"),
        table=str(folder / "table.md"),
        plot=str(folder / "plot.png"),
        variants=summary["variants"],
        comparisons=summary["comparisons"],
        not_run=summary["not_run"],
        figures=_figures(summary),
    )


def _figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Estimates by name: those of the variants, and the reference's lead over each."""
    named = {"variants": ("success", "steps_all", "steps")}
    named["comparisons"] = ("success_difference", "steps_all_ratio", "steps_ratio")
    figures = {}
    for kind, names in named.items():
        for row in summary[kind]:
            for name in names:
                if row[name]["value"] is not None:
                    figures[f"{row['variant']}/{row['demonstrations']}/{row['condition']}/{name}"] = row[name]["value"]
    return figures
