"""What docs/results says of the ablations follows from the rollouts that lie there, by the code that is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posa_vla.evaluation.ablation.figures import Group, compare_groups, group_figures
from posa_vla.evaluation.ablation.plan import (
    OWN_EXECUTION,
    AblationPlan,
    condition_params,
    load_plan,
    plan_scenes,
    scenes_condition,
)
from posa_vla.evaluation.ablation.rows import TrainingRows
from posa_vla.evaluation.ablation.table import table
from posa_vla.evidence.record import EpisodeRow
from posa_vla.files import read_json
from posa_vla.params import Params
from posa_vla.schema import parse

RESULTS = Path(__file__).parents[3] / "docs" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("anchors-*/results.json"))
Place = tuple[str, int, str]


def rows_of(folder: Path, summary: dict[str, Any]) -> Iterator[tuple[Place, int, list[EpisodeRow]]]:
    """Place, training seed and rows of each training under each condition; version 1 has them in the summary."""
    if summary["schema_version"] == 1:
        for line in summary["rows"]:
            place = line["variant"], line["demonstrations"], line["condition"]
            yield place, line["seed"], [EpisodeRow.model_validate(row) for row in line["rows"]]
        return
    assert sorted(f"rows/{path.name}" for path in folder.glob("rows/*")) == summary["rows"]
    for name in summary["rows"]:
        training = parse(TrainingRows, read_json(folder / name), name)
        assert training.origin.plan == summary["plan_digest"]
        for condition, columns in training.conditions.items():
            yield (training.variant, training.demonstrations, condition), training.seed, columns.rows()


def verify(folder: Path) -> None:
    summary = read_json(folder / "results.json")
    if summary["schema_version"] > 1:  # its keys are sorted in the file
        conditions = summary["plan"]["conditions"]
        summary["plan"]["conditions"] = {summary["first"]: conditions.pop(summary["first"]), **conditions}
    plan, params = parse(AblationPlan, summary["plan"], folder.name), parse(Params, summary["params"], folder.name)
    assert summary["plan_digest"] == plan.digest
    shipped = load_plan()
    assert plan == shipped or plan.name != shipped.name, "the shipped plan has other results: give it another name"
    assert table(summary) == (folder / "table.md").read_text()
    groups: dict[Place, dict[int, list[EpisodeRow]]] = {}
    for place, seed, rows in rows_of(folder, summary):
        assert [row.scene_seed for row in rows] == plan_scenes(plan, scenes_condition(plan, place[2]), plan.scenes)
        groups.setdefault(place, {})[seed] = rows
    new = {"steps_all"} if summary["schema_version"] > 1 else set()
    told: dict[Place, Group] = {}
    for row in summary["variants"]:
        place = row["variant"], row["demonstrations"], row["condition"]
        told[place] = groups[place]
        limit = condition_params(plan, params, place[2]).evaluate.max_steps
        figures = group_figures(groups[place], {}, limit)  # the expert's paths are not among the rows
        for name in {"success", "steps", "jerk", "by_seed"} | new:
            assert row[name] == pytest.approx(figures[name]), (place, name)
    assert told.keys() == groups.keys()
    for row in summary["comparisons"]:
        place = row["variant"], row["demonstrations"], row["condition"]
        limit = condition_params(plan, params, place[2]).evaluate.max_steps
        reference = groups.get((row["reference"], *place[1:]))
        if reference is None:
            assert place[2] == OWN_EXECUTION
            reference = groups[row["reference"], place[1], plan.first]
        found = compare_groups(reference, groups[place], limit)
        assert row["both_solved"] == found["both_solved"]
        for name in {"success_difference", "steps_ratio"} | {f"{figure}_ratio" for figure in new}:
            assert row[name] == pytest.approx(found[name]), (place, name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_table_and_figures_follow_from_the_rows(folder: Path) -> None:
    verify(folder)


def test_the_first_results_are_there() -> None:
    assert RESULTS / "anchors-1" in FOLDERS
