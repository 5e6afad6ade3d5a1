"""An ablation's table, plot and results file."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posa_vla.evaluation.ablation.figures import compare_groups, group_figures
from posa_vla.evaluation.ablation.plan import AblationPlan, Cell, cells, conditions_of
from posa_vla.evidence.record import EpisodeRow
from posa_vla.files import write_bytes, write_json, write_text
from posa_vla.machine import processors
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
        planned: All trainings.
        full: Whether this is the full run.
        groups: Place -> training seed -> rows.
        expert: Condition -> scene seed -> steps and path length of the expert.
        bundles: Name of a training -> digest of its policy.
        training_seconds: Of all trainings so far.
    """

    plan: AblationPlan
    params: Params
    planned: Sequence[Cell]
    full: bool
    groups: dict[Place, dict[int, Sequence[EpisodeRow]]] = field(default_factory=dict)
    expert: dict[str, Mapping[int, tuple[int, float]]] = field(default_factory=dict)
    bundles: dict[str, str] = field(default_factory=dict)
    training_seconds: float = 0.0

    def add(self, cell: Cell, condition: str, rows: Sequence[EpisodeRow], bundle: str, seconds: float) -> None:
        """Takes the rows of one training under one condition."""
        self.groups.setdefault((cell.variant, cell.demonstrations, condition), {})[cell.seed] = rows
        if cell.name not in self.bundles:
            self.training_seconds += seconds
        self.bundles[cell.name] = bundle

    def not_run(self) -> list[str]:
        """What the plan's full run has besides, in words."""
        missing = []
        for cell in cells(self.plan, self.params, full=True):
            for condition in conditions_of(self.plan, cell, self.params, full=True):
                if cell.seed not in self.groups.get((cell.variant, cell.demonstrations, condition), {}):
                    missing.append(f"{cell.name}, {condition}")
        return missing


def _summary(results: Results) -> dict[str, Any]:
    plan, everything = results.plan, results.params.collect.episodes
    variants, comparisons = [], []
    for (variant, demonstrations, condition), group in results.groups.items():
        place = {"variant": variant, "demonstrations": demonstrations, "condition": condition}
        variants.append({**place, **group_figures(group, results.expert[condition])})
        reference = results.groups.get((plan.reference, demonstrations, condition))
        if variant != plan.reference and reference is not None:
            comparisons.append({**place, "reference": plan.reference, **compare_groups(reference, group)})
    return {
        "schema_version": 1,
        "plan": plan.model_dump(mode="json"),
        "plan_digest": plan.digest,
        "params": results.params.model_dump(mode="json"),
        "demonstrations": everything,
        "variants": variants,
        "comparisons": comparisons,
        "not_run": results.not_run(),
        "bundles": results.bundles,
        "training_seconds": round(results.training_seconds, 1),
        "machine": f"{platform.machine()}, {processors()} CPUs, {platform.system()}",
        "rows": [
            {"variant": variant, "demonstrations": demonstrations, "condition": condition, "seed": seed}
            | {"rows": [row.model_dump(mode="json") for row in rows]}
            for (variant, demonstrations, condition), group in results.groups.items()
            for seed, rows in group.items()
        ],
    }


def _percent(estimate: Mapping[str, float | None], signed: bool = False) -> str:
    return _text(estimate, 100, "+.0f" if signed else ".0f")


def _text(estimate: Mapping[str, float | None], factor: float = 1, form: str = ".3g") -> str:
    if estimate["value"] is None:
        return "none"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{format(factor * estimate['value'], form)} (too few scenes)"
    value, low, high = (format(factor * float(estimate[name] or 0), form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def table(summary: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    plan = summary["plan"]
    lines = [
        f"# Ablation {plan['name']}",
        "",
        f"{plan['scenes']} unseen scenes for each condition, the same for every policy; training seeds "
        f"{', '.join(map(str, plan['training_seeds']))}. In brackets 95 % intervals over training seeds and scenes. "
        "Steps, path and jerk are those of solved scenes. Where there "
        "is one training, the interval is over scenes alone, and another training may differ by more.",
        "",
        "| variant | demonstrations | condition | trainings | success (%) | steps | path / expert's | jerk (mm) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary["variants"]:
        line = [row["variant"], row["demonstrations"], row["condition"], len(row["by_seed"])]
        line += [_percent(row["success"]), _text(row["steps"]), _text(row["path_over_expert"])]
        lines.append(f"| {' | '.join(map(str, [*line, _text(row['jerk'], 1000)]))} |")
    lines += [
        "",
        f"`{plan['reference']}` minus the others, on the same scenes:",
        "",
        "| against | demonstrations | condition | success (points) | steps (%) | scenes both solve |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["comparisons"]:
        ratio = {name: None if value is None else value - 1 for name, value in row["steps_ratio"].items()}
        line = [row["variant"], row["demonstrations"], row["condition"], _percent(row["success_difference"], True)]
        lines.append(f"| {' | '.join(map(str, [*line, _percent(ratio, True), row['both_solved']]))} |")
    if summary["not_run"]:
        lines += ["", f"Not run, of the full plan: {len(summary['not_run'])} (`results.json` lists them)."]
    return "\n".join(lines) + "\n"


def _bars(axis: Any, rows: Sequence[Mapping[str, Any]], name: str, factor: float, title: str) -> None:
    labels = [_label(row) for row in rows]
    for place, row in enumerate(rows):
        estimate = row[name]
        if estimate["value"] is None:
            axis.text(0, place, " none", va="center", fontsize=8)
            continue
        value = factor * estimate["value"]
        reach = None
        if estimate["low"] is not None and estimate["high"] is not None:
            reach = [[value - factor * estimate["low"]], [factor * estimate["high"] - value]]
        colour = "tab:orange" if row["reference"] else "tab:blue"
        axis.barh(place, value, xerr=reach, color=colour, height=0.6, capsize=3, ecolor="0.25")
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['variant']} ({row['demonstrations']}, {row['condition']})"


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Success and steps with their intervals, one bar a variant and condition, as PNG."""
    import io

    from matplotlib.figure import Figure

    reference = summary["plan"]["reference"]
    rows = [{**row, "reference": row["variant"] == reference} for row in summary["variants"]]
    figure = Figure(figsize=(10, 1.6 + 0.42 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, rows, "success", 100, "success on unseen scenes (%)")
    left.set_xlim(0, 100)
    left.invert_yaxis()  # shared by both: the first row above
    _bars(right, rows, "steps", 1, "steps to success (solved scenes)")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    write_bytes(path, file.getvalue())


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
    """Writes `results.json`, `table.md` and `plot.png`."""
    folder = folder / ("full" if results.full else "quick")
    summary = _summary(results)
    write_json(folder / "results.json", summary)
    write_text(folder / "table.md", table(summary))
    plot(summary, folder / "plot.png")
    figures = {}
    for row in summary["variants"]:
        for name in ("success", "steps"):
            if row[name]["value"] is not None:
                figures[f"{row['variant']}/{row['demonstrations']}/{row['condition']}/{name}"] = row[name]["value"]
    return AblationReport(
        results=str(folder / "results.json"),
        table=str(folder / "table.md"),
        plot=str(folder / "plot.png"),
        variants=summary["variants"],
        comparisons=summary["comparisons"],
        not_run=summary["not_run"],
        figures=figures,
    )
