"""Train and roll out the cells of an ablation plan, compare them, and keep the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.evaluation.ablation.plan import (
    TUNING,
    AblationPlan,
    Cell,
    cell_params,
    cells,
    condition_params,
    conditions_of,
    plan_scenes,
)
from posa_vla.evaluation.ablation.report import Results, write_report
from posa_vla.evidence.record import EpisodeRow, read_evidence
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.pipeline.context import Retraining, open_retraining, timed
from posa_vla.pipeline.steps.bundle import seal_bundle
from posa_vla.pipeline.steps.collect import collect_demonstrations, collection_inputs
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE, evidence_path, run_policy
from posa_vla.pipeline.steps.train import train_candidate
from posa_vla.pipeline.steps.version import version_data
from posa_vla.release.code_state import code_state
from posa_vla.workspace import Workspace


@dataclass(frozen=True)
class Ablation:
    """What the steps of one ablation share.

    Attributes:
        workspace: The user's, whose MLflow and cluster are used; data and policies lie in workspaces below it, one for
            each set of demonstrations, so that no retraining ever learns from them.
        params: The preset.
        plan: What is compared.
        host: Holds the cluster.
    """

    workspace: Workspace
    params: Params
    plan: AblationPlan
    host: Retraining

    @property
    def folder(self) -> Path:
        """Of this plan."""
        return self.workspace.home / "ablation" / self.plan.name

    def place(self, params: Params) -> Workspace:
        """The workspace of the trainings with these demonstrations alone: a training takes all that it holds."""
        inputs = sha256_json(collection_inputs(self.host, params.collect))
        settings = self.workspace.settings.model_copy(
            update={
                "home": self.folder / f"demonstrations-{params.collect.episodes}-{inputs[:12]}",
                "mlflow_tracking_uri": self.workspace.mlflow_uri,
                "dvc_remote": "",
            }
        )
        return Workspace.open(settings)

    @contextmanager
    def opened(self, cell: Cell, params: Params) -> Iterator[Retraining]:
        """One training's share, with an MLflow run of its own."""
        workspace = self.place(cell_params(self.plan, self.params, cell))
        experiment = f"{params.target}-ablation"
        retraining = Retraining(workspace, params, experiment=experiment, host=self.host)
        with workspace.lock(f"an ablation ({cell.name})"), retraining.resources():
            yield retraining


def _trained(ablation: Ablation, cell: Cell, learning_rate: float | None = None) -> dict[str, Any]:
    """Trains one cell's policy; returns `bundle` and `training_seconds`."""
    params = cell_params(ablation.plan, ablation.params, cell, learning_rate)
    with ablation.opened(cell, params) as retraining:
        collect_demonstrations(retraining)
        data = version_data(retraining)
        trained = train_candidate(retraining, data)
        bundle = seal_bundle(retraining, trained)
        name = cell.name if learning_rate is None else f"{cell.name}, tuning: learning rate {learning_rate:g}"
        run = retraining.tracked(data)
        run.set_tags({"mlflow.runName": name, "posa.bundle": bundle["digest"], "posa.ablation": ablation.plan.digest})
    return {"bundle": bundle["digest"], "training_seconds": trained["seconds"]}


def _rolled_out(ablation: Ablation, cell: Cell, bundle: str, condition: str, scenes: list[int]) -> list[EpisodeRow]:
    """A policy's rows on the scenes of a condition."""
    params = condition_params(ablation.plan, ablation.params, condition, len(scenes))
    with ablation.opened(cell, params) as retraining:
        inputs = {
            "bundle": bundle,
            "embodiment": retraining.embodiment_key(),
            "task": retraining.target.task,
            "evaluate": params.evaluate.model_dump(mode="json"),
            "image_size": params.collect.image_size,
            "scenes": scenes,
            "code": code_digest(EVALUATION_CODE),
        }

        def work(key: str) -> dict[str, Any]:
            return {"evidence": run_policy(retraining, bundle, scenes, f"evaluations/{key}/{bundle}").digest}

        def sound(output: dict[str, Any]) -> bool:
            path = evidence_path(retraining.workspace, output["evidence"])
            return path.is_file() and read_evidence(path).complete()

        done = retraining.ledger.step("ablate-rollouts", inputs, work, sound=sound)
        evidence = read_evidence(evidence_path(retraining.workspace, done.output["evidence"]))
    by_scene = {row.scene_seed: row for row in evidence.rows}
    return [by_scene[seed] for seed in scenes]


def _expert(ablation: Ablation, condition: str, scenes: list[int]) -> dict[int, tuple[int, float]]:
    """Steps and path length (m) of the scripted expert, without noise, on the scenes that it solves."""
    params = condition_params(ablation.plan, ablation.params, condition)
    inputs = {
        "embodiment": ablation.host.embodiment_key(),
        "task": ablation.host.target.task,
        "evaluate": params.evaluate.model_dump(mode="json"),
        "scenes": scenes,
        "code": code_digest(EVALUATION_CODE),
    }

    def work(key: str) -> dict[str, Any]:
        from posa_vla.evaluation.ablation.expert import expert_runs

        return {"runs": [[seed, *run] for seed, run in expert_runs(params, scenes).items()]}

    done = ablation.host.ledger.step("ablate-expert", inputs, work)
    return {int(seed): (int(steps), float(path)) for seed, steps, path in done.output["runs"]}


def tune(ablation: Ablation) -> list[dict[str, Any]]:
    """Tries every learning rate of the plan for every quick variant; rows of both and the `success` they had."""
    plan = ablation.plan
    scenes, rows = plan_scenes(plan, TUNING, plan.tuning.scenes), []
    for variant in plan.quick:
        for rate in plan.tuning.learning_rates:
            cell = Cell(variant, plan.tuning.seed, ablation.params.collect.episodes)
            trained = _trained(ablation, cell, rate)
            found = _rolled_out(ablation, cell, trained["bundle"], next(iter(plan.conditions)), scenes)
            success = sum(row.success for row in found) / len(found)
            rows.append({"variant": variant, "learning_rate": rate, "success": success, "scenes": len(found)})
            say(f"tuning {variant}, learning rate {rate:g}: {success:.0%} of {len(found)} scenes")
    return rows


def compare(ablation: Ablation, *, full: bool) -> dict[str, Any]:
    """Trains and runs everything that the plan asks for, and reports after each training what is there by then."""
    plan, params = ablation.plan, ablation.params
    start, planned = time.monotonic(), cells(plan, params, full=full)
    results, done = Results(plan, params, planned, full), dict[str, Any]()
    for number, cell in enumerate(planned, 1):
        say(f"training {number} of {len(planned)}: {cell.name}")
        trained = _trained(ablation, cell)
        for condition in conditions_of(plan, cell, params, full=full):
            scenes = plan_scenes(plan, condition, plan.scenes)
            if condition not in results.expert:
                results.expert[condition] = _expert(ablation, condition, scenes)
            rows = _rolled_out(ablation, cell, trained["bundle"], condition, scenes)
            results.add(cell, condition, rows, trained["bundle"], trained["training_seconds"])
            say(f"{cell.name}, {condition}: {sum(row.success for row in rows)} of {len(rows)} scenes")
        done = write_report(results, ablation.folder)
    return {**done, "run_id": _log(ablation, done, full), "seconds": timed(start)}


def _log(ablation: Ablation, done: dict[str, Any], full: bool) -> str:
    """One MLflow run with table, plot and figures; returns its id."""
    from posa_vla import tracking

    key = sha256_json({"plan": ablation.plan.digest, "params": ablation.params.model_dump(mode="json"), "full": full})
    experiment = f"{ablation.params.target}-ablation"
    settings, name = ablation.workspace.settings, f"{ablation.plan.name}, {'full' if full else 'quick'} run"
    code = code_state(settings)
    source = tracking.Source(name, "posa ablate", bool(settings.prefect_api_url), code.commit, code.dirty)
    with tracking.open_run(ablation.workspace.mlflow_uri, experiment, key, source) as run:
        run.log_params({"plan": ablation.plan.model_dump(mode="json")})
        for name in ("table", "plot", "results"):
            path = Path(done[name])
            run.log_bytes(path.read_bytes(), f"ablation/{path.name}")
        run.describe(Path(done["table"]).read_text())
        run.log_figures(done["figures"])
        return run.run_id


def run_ablation(
    workspace: Workspace, params: Params, plan: AblationPlan, *, full: bool, tuning: bool = False
) -> dict[str, Any]:
    """Carries a plan out on a workspace; the same call continues where an earlier one was stopped.

    Returns:
        See `write_report`; with `tuning` only `tuning`, its rows.

    Raises:
        BadInput: A variant or a condition of the plan fits no parameters, whenever its turn would be.
    """
    for cell in cells(plan, params, full=True):
        cell_params(plan, params, cell)
    for condition in plan.conditions:
        condition_params(plan, params, condition)
    with open_retraining(workspace, params, "an ablation") as host:
        ablation = Ablation(workspace, params, plan, host)
        return {"tuning": tune(ablation)} if tuning else compare(ablation, full=full)
