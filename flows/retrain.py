"""The whole loop: demonstrations to a verified policy on a robot. Reads top to bottom; each task calls one function."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, get_run_logger

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.artifacts import show_data, show_retraining
from flows.server.events import announce
from flows.server.flow_runs import name_run
from flows.server.tasks import step_task
from posa_vla.console import also_to
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.pipeline.context import StepContext, open_context, timed
from posa_vla.pipeline.records import (
    Candidate,
    Collected,
    Decided,
    Evaluated,
    Registered,
    Released,
    RobotRun,
    Trained,
)
from posa_vla.pipeline.steps import bundle as bundle_step
from posa_vla.pipeline.steps import collect as collect_step
from posa_vla.pipeline.steps import decide as decide_step
from posa_vla.pipeline.steps import evaluate as evaluate_step
from posa_vla.pipeline.steps import offline as offline_step
from posa_vla.pipeline.steps import register as register_step
from posa_vla.pipeline.steps import release as release_step
from posa_vla.pipeline.steps import robot as robot_step
from posa_vla.pipeline.steps import train as train_step
from posa_vla.pipeline.steps import version as version_step
from posa_vla.pipeline.steps.train import require_starting_bundle
from posa_vla.pipeline.summary import RetrainingSummary, summarise
from posa_vla.pipeline.target import require_target
from posa_vla.promotion.drafting import require_recordable
from posa_vla.workspace import Workspace


@step_task
def collect(context: StepContext) -> Collected:
    """Demonstrations of the scripted expert, into the episode store."""
    return collect_step.collect(context)


@step_task
def version(context: StepContext) -> DataVersion:
    """The store as versioned training data; what was found of it is shown with the run."""
    data = version_step.version(context)
    show_data(context.workspace, data)
    return data


@step_task
def train(context: StepContext, data: DataVersion) -> Trained:
    """A candidate, trained under Ray."""
    return train_step.train(context, data)


@step_task
def bundle(context: StepContext, trained: Trained) -> Candidate:
    """The candidate as a bundle named by its content."""
    return bundle_step.bundle(context, trained)


@step_task
def offline(context: StepContext, candidate: Candidate) -> Evaluated:
    """The candidate along held-out episodes: whether it is broken, not whether it works."""
    return offline_step.offline(context, candidate)


@step_task
def evaluate(context: StepContext, replayed: Evaluated) -> Evaluated:
    """Candidate and champion on the same unseen scenes."""
    return evaluate_step.evaluate(context, replayed)


@step_task
def decide(context: StepContext, evaluated: Evaluated) -> Decided:
    """Promote, reject, or no decision."""
    return decide_step.decide(context, evaluated)


@step_task
def register(context: StepContext, decided: Decided) -> Registered:
    """A model version of the target's registered model, whatever the verdict."""
    return register_step.register(context, decided)


@step_task
def release(context: StepContext, registered: Registered) -> Released:
    """A signed release on the channel; the champion is the new one."""
    return release_step.release(context, registered)


@step_task
def robot(context: StepContext, released: Released) -> RobotRun:
    """The simulated robot takes the release, verifies it, and runs it."""
    return robot_step.run_on_robot(context, released)


@flow(name="retrain")
def retrain(
    preset: Preset | None = None,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
) -> dict[str, Any]:
    """Demonstrations, data version, training, evaluation, verdict, registration; after "promote" release and robot.

    Whatever was done for the same inputs is reused. "reject" and "no decision" are successful endings.

    Args:
        preset: Shipped overlay of the parameters: demo (minutes on two cores) or tiny (a minute, learns nothing).
        target: Deployment target, one of `targets` in the parameter file; empty for the file's own choice.
        changes: Single parameters that shall differ.
        params_file: Parameter file on the machine that runs the flow.
    """
    params = resolve(preset, target, changes, params_file)
    workspace = Workspace.open()
    require_recordable(params)
    require_target(workspace, params)
    require_starting_bundle(workspace, params)
    with (
        also_to(get_run_logger().info),
        open_context(workspace, params, "a retraining", announce) as context,
    ):
        return _loop(context).model_dump(mode="json")


def _loop(context: StepContext) -> RetrainingSummary:
    start = time.monotonic()
    name_run(context.params)
    collected = [collect(context)] if context.collects else []
    data = version(context, wait_for=collected)
    name_run(context.params, data.record.name)
    trained = train(context, data)
    candidate = bundle(context, trained)
    evaluated = offline(context, candidate)
    if context.simulates:
        evaluated = evaluate(context, evaluated)
    decided = decide(context, evaluated)
    registered = register(context, decided)
    released: Released | None = None
    reported = robot_step.robot_state(context.workspace, context.params.target)
    if decided.record.verdict == "promote":
        offered = release(context, registered)
        released = offered.record
        if released.release is not None:
            reported = robot(context, offered).record.report
    summary = summarise(context.steps, trained.record, registered.record, released, reported, timed(start))
    show_retraining(context.workspace, summary, registered.record)
    return summary
