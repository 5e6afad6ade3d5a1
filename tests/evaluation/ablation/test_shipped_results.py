"""What docs/results says of the ablation follows from the rollouts that lie there, by the code that is here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posa_vla.evaluation.ablation.figures import Group, compare_groups, group_figures
from posa_vla.evaluation.ablation.plan import load_plan, plan_scenes
from posa_vla.evaluation.ablation.report import table
from posa_vla.evidence.record import EpisodeRow

FOLDER = Path(__file__).parents[3] / "docs" / "results" / "anchors-1"


def test_table_and_figures_follow_from_the_rows() -> None:
    summary = json.loads((FOLDER / "results.json").read_text())
    plan = load_plan()
    assert summary["plan_digest"] == plan.digest
    assert table(summary) == (FOLDER / "table.md").read_text()
    groups: dict[tuple[str, int, str], dict[int, list[EpisodeRow]]] = {}
    for line in summary["rows"]:
        rows = [EpisodeRow.model_validate(row) for row in line["rows"]]
        assert [row.scene_seed for row in rows] == plan_scenes(plan, line["condition"], plan.scenes)
        place = line["variant"], line["demonstrations"], line["condition"]
        groups.setdefault(place, {})[line["seed"]] = rows
    told: dict[tuple[str, int, str], Group] = {}
    for row in summary["variants"]:
        place = row["variant"], row["demonstrations"], row["condition"]
        told[place] = groups[place]
        figures = group_figures(groups[place], {})  # the expert's paths are not among the rows
        for name in ("success", "steps", "jerk", "by_seed"):
            assert row[name] == pytest.approx(figures[name]), (place, name)
    assert told.keys() == groups.keys()
    for row in summary["comparisons"]:
        place = row["variant"], row["demonstrations"], row["condition"]
        found = compare_groups(groups[(row["reference"], *place[1:])], groups[place])
        assert row["both_solved"] == found["both_solved"]
        for name in ("success_difference", "steps_ratio"):
            assert row[name] == pytest.approx(found[name]), (place, name)
