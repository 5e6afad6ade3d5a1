"""The rows of an ablation, one small file a training: committed with its results, gone on from on another machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from posa_vla.errors import BadInput
from posa_vla.evaluation.ablation.plan import AblationPlan, Cell, plan_scenes, scenes_condition
from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.files import read_json, write_text
from posa_vla.schema import Closed, parse


class Columns(Closed):
    """Rows of one policy under one condition, column by column: a file of them is short, and every row is in it.

    Attributes:
        bundle: Digest of the policy.
        scenes: Scene seeds.
        success: Of each scene.
        steps: Control steps of each.
        path_length: Metres, to a micrometre.
        jerk: m per cubed control period, to nine decimals; None where it was not measured.
    """

    bundle: str
    scenes: list[int]
    success: list[bool]
    steps: list[int]
    path_length: list[float]
    jerk: list[float | None]

    @model_validator(mode="after")
    def _as_long(self) -> Columns:
        lengths = {len(column) for column in (self.scenes, self.success, self.steps, self.path_length, self.jerk)}
        if len(lengths) > 1:
            raise ValueError(f"columns of {sorted(lengths)} rows, expected one length")
        return self

    @staticmethod
    def of(evidence: Evidence, scenes: Sequence[int]) -> Columns:
        """The columns of complete evidence, in the order of `scenes`."""
        by_scene = {row.scene_seed: row for row in evidence.rows}
        rows = [by_scene[seed] for seed in scenes]
        return Columns(
            bundle=evidence.policy_digest,
            scenes=list(scenes),
            success=[row.success for row in rows],
            steps=[row.steps for row in rows],
            path_length=[round(row.path_length, 6) for row in rows],
            jerk=[None if row.jerk is None else round(row.jerk, 9) for row in rows],
        )

    def rows(self) -> list[EpisodeRow]:
        """One row a scene."""
        return [
            EpisodeRow(scene_seed=scene, success=success, steps=steps, path_length=path, jerk=jerk)
            for scene, success, steps, path, jerk in zip(
                self.scenes, self.success, self.steps, self.path_length, self.jerk, strict=True
            )
        ]


class Origin(Closed):
    """What rows follow from: they are gone on from where all of it is the same.

    Attributes:
        plan: Digest of the plan.
        params: Digest of all parameters that decide, and of the embodiment.
        code: Part of the work -> digest of the code that does it.
    """

    plan: str
    params: str
    code: dict[str, str]


class TrainingRows(Closed):
    """All rows of one training.

    Attributes:
        variant: See `Cell`; `demonstrations` and `seed` too.
        origin: What they follow from.
        commit: Commit of the code.
        seconds: That the training took.
        machine: Where the first of them were made.
        versions: Package -> version, there.
        conditions: Condition -> rows.
    """

    schema_version: Literal[1] = 1
    variant: str
    demonstrations: int
    seed: int
    origin: Origin
    commit: str
    seconds: float = Field(ge=0)
    machine: str
    versions: dict[str, str]
    conditions: dict[str, Columns]

    @property
    def cell(self) -> Cell:
        """The training."""
        return Cell(self.variant, self.seed, self.demonstrations)


def rows_path(folder: Path, cell: Cell) -> Path:
    """Where a training's rows lie in a folder of results."""
    return folder / "rows" / f"{cell.variant}-{cell.demonstrations}-seed-{cell.seed}.json"


def write_rows(folder: Path, rows: TrainingRows) -> None:
    """Writes a training's rows into a folder of results, one column a line."""
    write_text(rows_path(folder, rows.cell), lines_json(rows.model_dump(mode="json")))


def read_rows(folder: Path, cell: Cell, plan: AblationPlan, origin: Origin) -> TrainingRows | None:
    """A training's rows in a folder of results, or None where there are none.

    Args:
        folder: Of results.
        cell: The training.
        plan: Says which scenes they are of.
        origin: What they have to follow from.

    Raises:
        BadInput: They are of another plan, other parameters, other code or other scenes.
    """
    path = rows_path(folder, cell)
    if not path.exists():
        return None
    rows = parse(TrainingRows, read_json(path), str(path))
    other = _difference(rows.origin, origin)
    if other is not None:
        raise BadInput(
            f"{path} cannot be gone on from: it was made with {other}, at commit {rows.commit[:12]}. Go on from that "
            "commit with that plan and those parameters, or give --results another folder"
        )
    for condition, columns in rows.conditions.items():
        if columns.scenes != plan_scenes(plan, scenes_condition(plan, condition), plan.scenes):
            raise BadInput(f"{path}: the scenes of {condition!r} are not the plan's: restore the file, or delete it")
    if rows.cell != cell:
        raise BadInput(f"{path} holds the rows of {rows.cell.name}: restore the file, or delete it")
    return rows


def _difference(theirs: Origin, ours: Origin) -> str | None:
    """What of two origins differs, in words."""
    if theirs.plan != ours.plan:
        return f"another plan ({theirs.plan[:12]}, this one's digest is {ours.plan[:12]})"
    if theirs.params != ours.params:
        return f"other parameters ({theirs.params[:12]}, the digest of these is {ours.params[:12]})"
    parts = [part for part in ours.code if theirs.code.get(part) != ours.code[part]]
    return f"other code of {' and '.join(parts)}" if parts else None


def lines_json(value: Any, indent: str = "") -> str:
    """JSON with one key a line, and a list on one line unless it is one of objects: those have a line each."""
    deeper = f"{indent} "
    if isinstance(value, dict) and value and any(isinstance(part, dict | list) for part in value.values()):
        parts = [f"{deeper}{json.dumps(key)}: {lines_json(value[key], deeper).rstrip()}" for key in sorted(value)]
        text = "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        text = "[\n" + ",\n".join(f"{deeper}{_one_line(part)}" for part in value) + f"\n{indent}]"
    else:
        text = _one_line(value)
    return f"{text}\n"


def _one_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
