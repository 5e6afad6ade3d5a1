"""Trials of a policy as anybody keeps them: CSV or JSON rows, our evidence records, folders that lerobot-eval wrote."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.files import read_json, read_text, sha256_json

# Columns that are read; all others are left alone.
_SEED, _TASK, _POLICY, _REASON = ("seed", "scene_seed", "scene"), "task", ("policy", "policy_digest"), "return_code"
_OUTCOMES = ("score", "success")
_KNOWN = (*_SEED, _TASK, *_POLICY, _REASON, *_OUTCOMES)
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_LEROBOT = "eval_info.json"
# Of an evidence record's suite: how a policy is run is its own (`JUDGED` of posa_vla.policy.execution, which posa-gate
# does without), and which seeds there are the rows say.
_OWN = frozenset({"execute", "committed", "ensemble", "flow_steps", "start_noise", "seeds"})


@dataclass(frozen=True)
class Trial:
    """One episode.

    Attributes:
        scene: Task and seed, which name the scene; None where nothing does.
        score: 1 for success and 0 for failure, or a share of stages in between.
        row: Where it stands, for messages.
    """

    scene: str | None
    score: float
    row: str


@dataclass(frozen=True)
class Trials:
    """All episodes of one policy, in the order in which they were run.

    Attributes:
        source: File or folder.
        policy: Its digest or name, where the rows say it.
        trials: The episodes; scenes differ from each other.
        from_lerobot: Whether lerobot-eval wrote them.
        outcome: Column that the scores are from.
        conditions: What the scenes were run under, where the file says it.
    """

    source: str
    policy: str | None
    trials: tuple[Trial, ...]
    from_lerobot: bool = False
    outcome: str = "success"
    conditions: dict[str, Any] | None = None

    @property
    def shuffled(self) -> tuple[Trial, ...]:
        """The trials in an order that neither their outcomes nor their tasks decide, the same for all policies.

        Files come task by task. Evidence that is gathered trial by trial would be of the first task alone.
        """
        keys = [trial.scene or str(number) for number, trial in enumerate(self.trials)]
        order = sorted(range(len(keys)), key=lambda n: sha256_json(keys[n]))
        return tuple(self.trials[n] for n in order)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of scenes and scores, whatever file they were in."""
        return sha256_json([[trial.scene, trial.score] for trial in self.trials])


def _score(value: Any, row: str, name: str) -> float:
    if isinstance(value, str):
        value = _TRUTH.get(value.strip().lower(), value.strip())
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise BadInput(
            f"{row}: {name} is {value!r}, expected 0, 1, true, false or a share in between: an episode without an "
            "outcome cannot be left out either, run it again"
        )
    return number


def _plain(seed: Any) -> str:
    """A seed as text: tables that had gaps write 7 as 7.0."""
    text = str(seed).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def _first(row: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Any] | None:
    """The first of these columns that the row has with a value."""
    return next(((name, row[name]) for name in names if row.get(name) not in (None, "")), None)


def _near_misses(names: Iterable[str], source: str) -> None:
    """Refuses a column that is surely meant as one of ours.

    Raises:
        BadInput: There is one.
    """
    for name in names:
        meant = get_close_matches(str(name), _KNOWN, n=1, cutoff=0.8)
        if name not in _KNOWN and meant:
            raise BadInput(f"{source}: unknown column {name!r}; did you mean {meant[0]!r}?")


def _trials(source: str, rows: list[tuple[str, Mapping[str, Any]]], policy: str | None, *, seeds: bool) -> Trials:
    """Rows as trials: each with an outcome and, if `seeds`, a scene of its own, and all of one policy."""
    if not rows:
        raise BadInput(f"{source}: no rows, expected one for each episode")
    _near_misses({name for _, row in rows for name in row}, source)
    column = next((name for name in _OUTCOMES if any(row.get(name) not in (None, "") for _, row in rows)), None)
    found: list[Trial] = []
    first_of: dict[str, str] = {}
    policy_row = source
    for where, row in rows:
        reason = row.get(_REASON) or "ok"
        if reason != "ok":
            raise BadInput(f"{where}: the episode has no valid outcome ({reason}): run it again")
        outcome = None if column is None else _first(row, [column])
        if outcome is None:
            wanted = f"its `{column}`" if column else "a column `success` (0 or 1) or `score` (0 to 1)"
            raise BadInput(f"{where}: no outcome, expected {wanted}")
        seed, scene = _first(row, _SEED), None
        if seed is not None:
            task = row.get(_TASK)
            scene = f"seed {_plain(seed[1])}" if task in (None, "") else f"{task}, seed {_plain(seed[1])}"
            if scene in first_of:
                raise BadInput(f"{where}: {scene} a second time (first: {first_of[scene]}): every scene counts once")
            first_of[scene] = where
        elif seeds:
            raise BadInput(
                f"{where}: no seed, so that nobody knows which row of the other policy saw the same scene: add a "
                "column `seed`, or use --independent where scenes cannot be repeated"
            )
        named = _first(row, _POLICY)
        if named is not None:
            if policy is not None and str(named[1]) != policy:
                raise BadInput(
                    f"{where}: policy {named[1]!r}, but {policy_row} is of {policy!r}: rows of two policies cannot "
                    "stand for one, give each its own file"
                )
            if policy is None:
                policy, policy_row = str(named[1]), where
        found.append(Trial(scene, _score(outcome[1], where, outcome[0]), where))
    return Trials(source, policy, tuple(found), outcome=column or "success")


def _csv_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    rows: list[tuple[str, Mapping[str, Any]]] = []
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise BadInput(f"{where}: more values than the header has columns")
            rows.append((where, {name.strip(): value for name, value in row.items()}))
        return rows
    except csv.Error as error:
        raise BadInput(
            f"{path}, line {reader.line_num}: {error}; expected comma-separated values with a header"
        ) from None


def _json_rows(path: Path) -> tuple[list[tuple[str, Mapping[str, Any]]], str | None, dict[str, Any] | None]:
    """Rows of a list, or of an object that holds it as `rows`, such as our evidence; its policy, and its conditions."""
    value = read_json(path, as_python_writes=True)
    policy, conditions = None, None
    if isinstance(value, dict):
        if isinstance(value.get("suite"), dict):
            conditions = {name: said for name, said in value["suite"].items() if name not in _OWN}
        policy = value.get("policy_digest") or value.get("policy")
        planned, value = value.get("planned"), value.get("rows")
        if isinstance(planned, int) and isinstance(value, list) and len(value) != planned:
            raise BadInput(
                f"{path}: {len(value)} of {planned} planned episodes are there: the evaluation is not finished"
            )
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise BadInput(f'{path}: expected a list of rows, {{"rows": [...]}}, or an evidence record')
    return [(f"{path}, row {number}", row) for number, row in enumerate(value, 1)], policy, conditions


def _lerobot_rows(path: Path, seed: int | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Episodes of lerobot-eval: `per_episode` with seeds (up to 0.3), or `per_task` without them (from 0.4)."""
    value = read_json(path, as_python_writes=True)
    value = value if isinstance(value, dict) else {}
    rows: list[tuple[str, Mapping[str, Any]]] = []
    if isinstance(value.get("per_episode"), list):
        for number, episode in enumerate(value["per_episode"]):
            row = episode if isinstance(episode, dict) else {}
            rows.append((f"{path}, per_episode[{number}]", {name: row.get(name) for name in ("seed", "success")}))
        return rows
    if not isinstance(value.get("per_task"), list):
        raise BadInput(f"{path}: neither per_task nor per_episode, expected what lerobot-eval writes")
    for place, task in enumerate(value["per_task"]):
        metrics = task.get("metrics") if isinstance(task, dict) else None
        successes = metrics.get("successes") if isinstance(metrics, dict) else None
        if not isinstance(successes, list):
            raise BadInput(f"{path}, per_task[{place}]: no metrics.successes, expected a list")
        seeds = metrics.get("seeds") if isinstance(metrics, dict) else None
        if isinstance(seeds, list) and len(seeds) != len(successes):
            raise BadInput(f"{path}, per_task[{place}]: {len(seeds)} seeds and {len(successes)} successes")
        name = f"{task.get('task_group')}/{task.get('task_id')}"
        for number, success in enumerate(successes):
            own = seeds[number] if isinstance(seeds, list) else None if seed is None else seed + number
            rows.append(
                (f"{path}, per_task[{place}], episode {number}", {"task": name, "seed": own, "success": success})
            )
    return rows


def read_trials(path: Path, *, seed: int | None = None, seeds: bool = True) -> Trials:
    """Reads the episodes of one policy.

    Args:
        path: A CSV file with a header, a JSON file, or a folder with lerobot-eval's `eval_info.json`.
        seed: The `--seed` that lerobot-eval was run with, where the file does not say it.
        seeds: Whether every row must name its scene.

    Raises:
        BadInput: The file cannot be read, a row has no outcome or no scene, a scene counts twice, or the rows are of
            two policies. The message names the row.
    """
    if path.is_dir():
        path = path / _LEROBOT
    if path.name == _LEROBOT:
        rows = _lerobot_rows(path, seed)
        if seeds and rows and all(row.get("seed") is None for _, row in rows):
            raise BadInput(
                f"{path} does not say its seeds: where the same seed makes the same scene, give the --seed N that "
                "lerobot-eval was run with (its default is 1000), else --independent"
            )
        found = _trials(str(path), rows, None, seeds=seeds)
        return replace(found, from_lerobot=True)
    if path.suffix.lower() == ".csv":
        return _trials(str(path), _csv_rows(path), None, seeds=seeds)
    listed, policy, conditions = _json_rows(path)
    return replace(
        _trials(str(path), listed, None if policy is None else str(policy), seeds=seeds), conditions=conditions
    )


def require_alike(candidate: Trials, other: Trials) -> None:
    """Stops where two policies were measured otherwise.

    Raises:
        BadInput: The outcomes are other columns, or the scenes were run under other conditions.
    """
    if candidate.outcome != other.outcome:
        raise BadInput(
            f"{candidate.source} counts by `{candidate.outcome}` and {other.source} by `{other.outcome}`: give both "
            "files the same column"
        )
    if candidate.conditions is not None and other.conditions is not None:
        names = sorted({*candidate.conditions, *other.conditions})
        for name in names:
            ours, theirs = candidate.conditions.get(name), other.conditions.get(name)
            if ours != theirs:
                raise BadInput(
                    f"{candidate.source} has {name} {ours}, {other.source} {theirs}: these are other scenes, evaluate "
                    "both under the same conditions"
                )


def pair_up(candidate: Trials, other: Trials, *, in_order: bool = False) -> list[tuple[Trial, Trial]]:
    """Trials of the same scenes, `shuffled`; or as they stand, where their order was drawn before they were run.

    Raises:
        BadInput: A scene is on one side only, or the two were measured otherwise.
    """
    require_alike(candidate, other)
    theirs = {trial.scene: trial for trial in other.trials}
    ours = {trial.scene for trial in candidate.trials}
    for missing, lacking in ((candidate.trials, (theirs, other)), (other.trials, (ours, candidate))):
        for trial in missing:
            if trial.scene not in lacking[0]:
                raise BadInput(
                    f"{trial.row}: {trial.scene} is not in {lacking[1].source}: pairs need the same scenes on both "
                    "sides; run the missing ones, or use --independent"
                )
    return [(trial, theirs[trial.scene]) for trial in (candidate.trials if in_order else candidate.shuffled)]
