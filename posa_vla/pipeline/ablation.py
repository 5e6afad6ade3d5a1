"""Train and roll out the cells of an ablation plan, compare them, and keep the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.evaluation.ablation.data import require_taught
from posa_vla.evaluation.ablation.plan import (
    AblationPlan,
    Cell,
    TunedExecution,
    Turn,
    cell_params,
    condition_params,
    execution_under,
    plan_scenes,
    scenes_condition,
    turns,
)
from posa_vla.evaluation.ablation.report import AblationReport, Results, write_report
from posa_vla.evaluation.ablation.rows import Columns, Origin, TrainingRows, read_rows, write_rows
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, open_context, timed
from posa_vla.pipeline.evaluation import RolledOut
from posa_vla.pipeline.records import Candidate
from posa_vla.pipeline.steps.bundle import bundle
from posa_vla.pipeline.steps.collect import collect, collection_inputs
from posa_vla.pipeline.steps.evaluate import run_policy
from posa_vla.pipeline.steps.train import TRAINING_CODE, train
from posa_vla.pipeline.steps.version import version
from posa_vla.release.code_state import code_state
from posa_vla.run_page import Source
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

# The code that decides how a rollout goes, and not how its table looks.
ROLLOUT_CODE = "posa_vla.evaluation.ray_rollout"
EXPERT_CODE = "posa_vla.evaluation.ablation.expert"


class ExpertRuns(Closed):
    """The scripted expert on some scenes.

    Attributes:
        runs: Scene, steps, path length (m); of the scenes that it solves.
    """

    runs: list[tuple[int, int, float]]


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


def trained(ablation: Ablation, cell: Cell, learning_rate: float | None = None) -> tuple[Candidate, float]:
    """Trains one cell's policy; returns it, and the seconds that its training took.

    Raises:
        BadInput: The demonstrations do not teach the anchors.
    """
    params = cell_params(ablation.plan, ablation.params, cell, learning_rate)
    with ablation.opened(cell, params) as context:
        collect(context)
        data = version(context)
        require_taught(context.workspace.home / data.folder)
        trained = train(context, data)
        candidate = bundle(context, trained)
        name = cell.name if learning_rate is None else f"{cell.name}, tuning: learning rate {learning_rate:g}"
        run = context.tracked(data)
        run.set_tags({"mlflow.runName": name, "posa.bundle": candidate.digest, "posa.ablation": ablation.plan.digest})
    return candidate, trained.seconds


def rolled_out(
    ablation: Ablation, cell: Cell, digest: str, condition: str, execution: TunedExecution | None, scenes: list[int]
) -> Evidence:
    """A policy's evidence on scenes under a condition, with a valid outcome of each scene.

    Raises:
        PosaError: A scene has none.
    """
    params = condition_params(ablation.plan, ablation.params, condition, execution, len(scenes))
    with ablation.opened(cell, params) as context:
        inputs = {
            "bundle": digest,
            "embodiment": context.embodiment_key(),
            "task": context.target.task,
            "evaluate": params.evaluate.model_dump(mode="json"),
            "image_size": params.collect.image_size,
            "scenes": scenes,
            "code": code_digest(ROLLOUT_CODE),
        }

        def work(key: str) -> RolledOut:
            return RolledOut(evidence=run_policy(context, digest, scenes, f"evaluations/{key}/{digest}").digest)

        def sound(made: RolledOut) -> bool:
            path = evidence_path(context.workspace, made.evidence)
            return path.is_file() and read_evidence(path).complete()

        done = context.ledger.step("ablate-rollouts", inputs, RolledOut, work, sound=sound)
        evidence = read_evidence(evidence_path(context.workspace, done.record.evidence))
    if not evidence.complete():
        valid = sum(row.return_code == "ok" for row in evidence.rows)
        raise PosaError(f"{cell.name}, {condition}: {valid} of {len(scenes)} scenes have an outcome: run it again")
    return evidence


def _expert(ablation: Ablation, condition: str) -> dict[int, tuple[int, float]]:
    """Steps and path length (m) of the scripted expert, without noise, on the scenes that it solves."""
    params = condition_params(ablation.plan, ablation.params, condition)
    scenes = plan_scenes(ablation.plan, condition, ablation.plan.scenes)
    inputs = {
        "embodiment": ablation.host.embodiment_key(),
        "task": ablation.host.target.task,
        "evaluate": params.evaluate.model_dump(mode="json"),
        "scenes": scenes,
        "code": code_digest(EXPERT_CODE),
    }

    def work(key: str) -> ExpertRuns:
        from posa_vla.evaluation.ablation.expert import expert_runs

        return ExpertRuns(runs=[(seed, *run) for seed, run in expert_runs(params, scenes).items()])

    done = ablation.host.ledger.step("ablate-expert", inputs, ExpertRuns, work)
    return {seed: (steps, path) for seed, steps, path in done.record.runs}


def _origin(ablation: Ablation, cell: Cell) -> Origin:
    """What a training's rows follow from."""
    from posa_vla.dataset.code import data_code

    context, params = ablation.host, cell_params(ablation.plan, ablation.params, cell)
    collection = collection_inputs(context, params.collect)
    decides = {"validation", "prepare", "model", "train", "evaluate"}
    # The plan says how many scenes are run, and a video changes none.
    evaluate = params.evaluate.model_copy(update={"episodes": 1, "videos": 0})
    params = params.model_copy(update={"evaluate": evaluate})
    code = {
        "the collection": sha256_json(collection["code"]),
        "the preparation": sha256_json(data_code()),
        "the training": code_digest(TRAINING_CODE),
        "the rollouts": code_digest(ROLLOUT_CODE),
    }
    inputs = {name: value for name, value in collection.items() if name != "code"}
    digest = sha256_json({"collection": inputs, "params": params.model_dump(mode="json", include=decides)})
    return Origin(plan=ablation.plan.digest, params=digest, code=code)


def _taken_over(ablation: Ablation, folder: Path) -> Results:
    """What lies in a folder of results already.

    Raises:
        BadInput: Rows there follow from something else.
    """
    plan, results = ablation.plan, Results(ablation.plan, ablation.params)
    for cell in dict.fromkeys(turn.cell for turn in turns(plan, ablation.params, full=True)):
        rows = read_rows(folder, cell, plan, _origin(ablation, cell))
        if rows is not None:
            results.trainings[cell] = rows
            say(f"{cell.name}: rows taken over from {folder} ({', '.join(rows.conditions)})")
    return results


def _carry_out(ablation: Ablation, turn: Turn, results: Results, folder: Path) -> None:
    """Trains one policy, runs it under each condition of the turn that is missing, and keeps its rows."""
    plan, cell = ablation.plan, turn.cell
    missing = results.missing(turn)
    candidate, seconds = trained(ablation, cell)
    for condition in missing:
        where = scenes_condition(plan, condition)
        scenes = plan_scenes(plan, where, plan.scenes)
        execution = execution_under(plan, condition, cell.variant)
        evidence = rolled_out(ablation, cell, candidate.digest, condition, execution, scenes)
        columns = Columns.of(evidence, scenes)
        known, origin = results.trainings.get(cell), _origin(ablation, cell)
        if known is not None and known.origin != origin:
            raise BadInput(
                f"{cell.name}: the code has changed since its first rows: go on from commit {known.commit[:12]}"
            )
        rows = TrainingRows(
            variant=cell.variant,
            demonstrations=cell.demonstrations,
            seed=cell.seed,
            origin=origin,
            commit=code_state(ablation.workspace.settings).commit or "",
            seconds=seconds,
            machine=evidence.hardware,
            versions=evidence.versions,
            conditions={},
        )
        kept = {**(known or rows).conditions, condition: columns}
        results.trainings[cell] = (known or rows).model_copy(update={"conditions": kept})
        write_rows(folder, results.trainings[cell])
        say(f"{cell.name}, {condition}: {sum(columns.success)} of {len(scenes)} scenes")


def compare(ablation: Ablation, *, full: bool, folder: Path | None = None) -> Compared:
    """Trains and runs everything that the plan asks for, and reports after each training what is there by then.

    Args:
        ablation: What is compared, and where.
        full: Whether all of the plan is asked for.
        folder: Of results, whose rows are gone on from; one in the workspace, where the ledger knows what is done, if
            None.

    Raises:
        BadInput: Rows in the folder follow from something else.
    """
    start, planned = time.monotonic(), turns(ablation.plan, ablation.params, full=full)
    if folder is None:
        folder = ablation.folder / ("full" if full else "quick")
        results = Results(ablation.plan, ablation.params)
    else:
        results = _taken_over(ablation, folder)
    for number, turn in enumerate(planned, 1):
        if results.missing(turn):
            say(f"{number} of {len(planned)}: {turn.cell.name}; {', '.join(results.missing(turn))}")
            _carry_out(ablation, turn, results, folder)
            if number < len(planned):
                _report(ablation, results, folder)
    report = _report(ablation, results, folder)
    return Compared(**dict(report), run_id=_log(ablation, report, full), seconds=timed(start))


def _report(ablation: Ablation, results: Results, folder: Path) -> AblationReport:
    """Writes the report of what is there, with the expert on the scenes of every condition that is."""
    plan = ablation.plan
    for rows in results.trainings.values():
        for condition in rows.conditions:
            where = scenes_condition(plan, condition)
            if where not in results.expert:
                results.expert[where] = _expert(ablation, where)
    return write_report(results, folder)


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


def run_ablation(
    workspace: Workspace, params: Params, plan: AblationPlan, *, full: bool, folder: Path | None = None
) -> Compared:
    """Carries a plan out on a workspace; the same call continues where an earlier one was stopped.

    Args:
        workspace: Is held.
        params: The preset.
        plan: What is compared.
        full: Whether all of the plan is asked for.
        folder: See `compare`.

    Raises:
        BadInput: A variant or a condition of the plan fits no parameters, whenever its turn would be, or rows in the
            folder follow from something else.
    """
    with open_ablation(workspace, params, plan) as ablation:
        return compare(ablation, full=full, folder=folder)


@contextmanager
def open_ablation(workspace: Workspace, params: Params, plan: AblationPlan) -> Iterator[Ablation]:
    """Checks all of a plan, and holds the workspace.

    Raises:
        BadInput: A variant or a condition fits no parameters.
    """
    for turn in turns(plan, params, full=True):
        cell_params(plan, params, turn.cell)
        for condition in turn.conditions:
            condition_params(plan, params, condition, execution_under(plan, condition, turn.cell.variant))
    with open_context(workspace, params, "an ablation") as host:
        yield Ablation(workspace, params, plan, host)
