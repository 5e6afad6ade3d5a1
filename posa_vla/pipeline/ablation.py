"""Train and roll out the cells of an ablation plan, compare them, and keep the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
from posa_vla.evaluation.ablation.report import AblationReport, Results, write_report
from posa_vla.evidence.record import EpisodeRow, evidence_path, read_evidence
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, open_context, timed
from posa_vla.pipeline.evaluation import RolledOut
from posa_vla.pipeline.records import Candidate
from posa_vla.pipeline.steps.bundle import bundle
from posa_vla.pipeline.steps.collect import collect, collection_inputs
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE, run_policy
from posa_vla.pipeline.steps.train import train
from posa_vla.pipeline.steps.version import version
from posa_vla.release.code_state import code_state
from posa_vla.run_page import Source
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class ExpertRuns(Closed):
    """The scripted expert on some scenes.

    Attributes:
        runs: Scene, steps, path length (m); of the scenes that it solves.
    """

    runs: list[tuple[int, int, float]]


class Tried(Closed):
    """A learning rate that was tried.

    Attributes:
        variant: Variant of the plan.
        learning_rate: Of its training.
        success: Share of the scenes that the policy solved.
        scenes: How many there were.
    """

    variant: str
    learning_rate: float
    success: float
    scenes: int


class Compared(AblationReport):
    """The document of `posa ablate --json`, but for `figures`.

    Attributes:
        run_id: MLflow run with table, plot and figures.
        seconds: That the call took.
    """

    run_id: str
    seconds: float


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
    host: StepContext

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
    def opened(self, cell: Cell, params: Params) -> Iterator[StepContext]:
        """One training's share, with an MLflow run of its own."""
        workspace = self.place(cell_params(self.plan, self.params, cell))
        experiment = f"{params.target}-ablation"
        context = StepContext(workspace, params, experiment=experiment, host=self.host)
        with workspace.lock(f"an ablation ({cell.name})"), context.resources():
            yield context


def _trained(ablation: Ablation, cell: Cell, learning_rate: float | None = None) -> tuple[Candidate, float]:
    """Trains one cell's policy; returns it, and the seconds that its training took."""
    params = cell_params(ablation.plan, ablation.params, cell, learning_rate)
    with ablation.opened(cell, params) as context:
        collect(context)
        data = version(context)
        trained = train(context, data)
        candidate = bundle(context, trained)
        name = cell.name if learning_rate is None else f"{cell.name}, tuning: learning rate {learning_rate:g}"
        run = context.tracked(data)
        run.set_tags({"mlflow.runName": name, "posa.bundle": candidate.digest, "posa.ablation": ablation.plan.digest})
    return candidate, trained.seconds


def _rolled_out(ablation: Ablation, cell: Cell, digest: str, condition: str, scenes: list[int]) -> list[EpisodeRow]:
    """A policy's rows on the scenes of a condition."""
    params = condition_params(ablation.plan, ablation.params, condition, len(scenes))
    with ablation.opened(cell, params) as context:
        inputs = {
            "bundle": digest,
            "embodiment": context.embodiment_key(),
            "task": context.target.task,
            "evaluate": params.evaluate.model_dump(mode="json"),
            "image_size": params.collect.image_size,
            "scenes": scenes,
            "code": code_digest(EVALUATION_CODE),
        }

        def work(key: str) -> RolledOut:
            return RolledOut(evidence=run_policy(context, digest, scenes, f"evaluations/{key}/{digest}").digest)

        def sound(made: RolledOut) -> bool:
            path = evidence_path(context.workspace, made.evidence)
            return path.is_file() and read_evidence(path).complete()

        done = context.ledger.step("ablate-rollouts", inputs, RolledOut, work, sound=sound)
        evidence = read_evidence(evidence_path(context.workspace, done.record.evidence))
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

    def work(key: str) -> ExpertRuns:
        from posa_vla.evaluation.ablation.expert import expert_runs

        return ExpertRuns(runs=[(seed, *run) for seed, run in expert_runs(params, scenes).items()])

    done = ablation.host.ledger.step("ablate-expert", inputs, ExpertRuns, work)
    return {seed: (steps, path) for seed, steps, path in done.record.runs}


def tune(ablation: Ablation) -> list[Tried]:
    """Tries every learning rate of the plan for every quick variant."""
    plan = ablation.plan
    scenes, rows = plan_scenes(plan, TUNING, plan.tuning.scenes), []
    for variant in plan.quick:
        for rate in plan.tuning.learning_rates:
            cell = Cell(variant, plan.tuning.seed, ablation.params.collect.episodes)
            candidate, _ = _trained(ablation, cell, rate)
            found = _rolled_out(ablation, cell, candidate.digest, next(iter(plan.conditions)), scenes)
            success = sum(row.success for row in found) / len(found)
            rows.append(Tried(variant=variant, learning_rate=rate, success=success, scenes=len(found)))
            say(f"tuning {variant}, learning rate {rate:g}: {success:.0%} of {len(found)} scenes")
    return rows


def compare(ablation: Ablation, *, full: bool) -> Compared:
    """Trains and runs everything that the plan asks for, and reports after each training what is there by then."""
    plan, params = ablation.plan, ablation.params
    start, planned = time.monotonic(), cells(plan, params, full=full)
    results = Results(plan, params, planned, full)
    for number, cell in enumerate(planned, 1):
        say(f"training {number} of {len(planned)}: {cell.name}")
        candidate, seconds = _trained(ablation, cell)
        for condition in conditions_of(plan, cell, params, full=full):
            scenes = plan_scenes(plan, condition, plan.scenes)
            if condition not in results.expert:
                results.expert[condition] = _expert(ablation, condition, scenes)
            rows = _rolled_out(ablation, cell, candidate.digest, condition, scenes)
            results.add(cell, condition, rows, candidate.digest, seconds)
            say(f"{cell.name}, {condition}: {sum(row.success for row in rows)} of {len(rows)} scenes")
        if number < len(planned):
            write_report(results, ablation.folder)
    report = write_report(results, ablation.folder)
    return Compared(**dict(report), run_id=_log(ablation, report, full), seconds=timed(start))


def _log(ablation: Ablation, report: AblationReport, full: bool) -> str:
    """One MLflow run with table, plot and figures; returns its id."""
    from posa_vla import tracking

    key = sha256_json({"plan": ablation.plan.digest, "params": ablation.params.model_dump(mode="json"), "full": full})
    experiment = f"{ablation.params.target}-ablation"
    settings, name = ablation.workspace.settings, f"{ablation.plan.name}, {'full' if full else 'quick'} run"
    code = code_state(settings)
    source = Source(name, "posa ablate", bool(settings.prefect_api_url), code.commit, code.dirty)
    with tracking.open_run(ablation.workspace.mlflow_uri, experiment, key, source) as run:
        run.log_params({"plan": ablation.plan.model_dump(mode="json")})
        for path in (Path(report.table), Path(report.plot), Path(report.results)):
            run.log_bytes(path.read_bytes(), f"ablation/{path.name}")
        run.describe(Path(report.table).read_text(encoding="utf-8"))
        run.log_figures(report.figures)
        return run.run_id


def run_ablation(workspace: Workspace, params: Params, plan: AblationPlan, *, full: bool) -> Compared:
    """Carries a plan out on a workspace; the same call continues where an earlier one was stopped.

    Raises:
        BadInput: A variant or a condition of the plan fits no parameters, whenever its turn would be.
    """
    with _opened(workspace, params, plan) as ablation:
        return compare(ablation, full=full)


def run_tuning(workspace: Workspace, params: Params, plan: AblationPlan) -> list[Tried]:
    """Tries the learning rates of a plan on a workspace; see `run_ablation`."""
    with _opened(workspace, params, plan) as ablation:
        return tune(ablation)


@contextmanager
def _opened(workspace: Workspace, params: Params, plan: AblationPlan) -> Iterator[Ablation]:
    for cell in cells(plan, params, full=True):
        cell_params(plan, params, cell)
    for condition in plan.conditions:
        condition_params(plan, params, condition)
    with open_context(workspace, params, "an ablation") as host:
        yield Ablation(workspace, params, plan, host)
