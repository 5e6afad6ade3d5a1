"""Rows of an ablation: small files, read back as they were, and gone on from only where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.evaluation.ablation.plan import AblationPlan, Cell, load_plan, plan_scenes
from posa_vla.evaluation.ablation.rows import Columns, Origin, TrainingRows, read_rows, rows_path, write_rows
from posa_vla.evidence.record import EpisodeRow, Evidence

CELL = Cell("full", 0, 600)
ORIGIN = Origin(plan="a" * 64, params="b" * 64, code={"the training": "c" * 64, "the rollouts": "d" * 64})
PLAN: AblationPlan = load_plan()
SCENES = plan_scenes(PLAN, "basic", PLAN.scenes)


def kept(scenes: list[int] = SCENES) -> TrainingRows:
    rows = [
        EpisodeRow(scene_seed=scene, success=i % 3 > 0, steps=20 + i % 7, path_length=0.5 + i / 3e5, jerk=None)
        for i, scene in enumerate(scenes)
    ]
    made = Evidence(
        policy_digest="e" * 64, suite={}, planned=len(rows), rows=rows[::-1], hardware="x86", versions={"torch": "2"}
    )
    return TrainingRows(
        variant=CELL.variant,
        demonstrations=CELL.demonstrations,
        seed=CELL.seed,
        origin=ORIGIN,
        commit="f" * 40,
        seconds=301.5,
        machine=made.hardware,
        versions=made.versions,
        conditions={"basic": Columns.of(made, scenes)},
    )


def test_rows_are_read_as_they_were_written_and_take_few_lines(tmp_path: Path) -> None:
    write_rows(tmp_path, kept())
    found = read_rows(tmp_path, CELL, PLAN, ORIGIN)
    assert found == kept()
    rows = found.conditions["basic"].rows()
    assert [row.scene_seed for row in rows] == SCENES, "in the order of the plan, whatever the evidence's was"
    assert (rows[4].steps, rows[4].success, rows[4].path_length) == (24, True, 0.500013)
    text = rows_path(tmp_path, CELL).read_text()
    assert len(text.splitlines()) < 40
    assert len(text) < 20_000
    assert read_rows(tmp_path, Cell("full", 1, 600), PLAN, ORIGIN) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": "0" * 64}, "made with another plan (aaaaaaaaaaaa, this one's digest is 000000000000)"),
        ({"params": "0" * 64}, "other parameters (bbbbbbbbbbbb, the digest of these is 000000000000)"),
        ({"code": {**ORIGIN.code, "the rollouts": "0" * 64}}, "other code of the rollouts, at commit ffffffffffff"),
    ],
)
def test_rows_that_follow_from_something_else_are_refused(tmp_path: Path, change: dict[str, str], words: str) -> None:
    write_rows(tmp_path, kept())
    with pytest.raises(BadInput) as refused:
        read_rows(tmp_path, CELL, PLAN, ORIGIN.model_copy(update=change))
    assert words in str(refused.value)
    assert "--results another folder" in str(refused.value)


def test_rows_of_other_scenes_or_of_another_training_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, kept([*SCENES[:-1], 5]))
    with pytest.raises(BadInput, match="the scenes of 'basic' are not the plan's"):
        read_rows(tmp_path, CELL, PLAN, ORIGIN)
    write_rows(tmp_path, kept())
    rows_path(tmp_path, CELL).rename(rows_path(tmp_path, Cell("no-gate", 0, 600)))
    with pytest.raises(BadInput, match="holds the rows of full, 600 demonstrations, seed 0"):
        read_rows(tmp_path, Cell("no-gate", 0, 600), PLAN, ORIGIN)
    rows_path(tmp_path, CELL).write_text(
        rows_path(tmp_path, Cell("no-gate", 0, 600)).read_text().replace("true, ", "", 1)
    )
    with pytest.raises(BadInput, match="expected one length"):
        read_rows(tmp_path, CELL, PLAN, ORIGIN)
