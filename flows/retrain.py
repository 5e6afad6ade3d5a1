"""The whole loop: demonstrations to a verified policy on a robot. Reads top to bottom; each task calls one function."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.artifacts import show_data, show_retraining
from flows.server.events import announce
from posa_vla.console import also_to
from posa_vla.pipeline.context import Retraining, open_retraining, timed
from posa_vla.pipeline.steps import evaluate as evaluate_steps
from posa_vla.pipeline.steps import release as promote_steps
from posa_vla.pipeline.steps import robot as robot_steps
from posa_vla.pipeline.steps import train as train_steps
from posa_vla.pipeline.steps import version as data_steps
from posa_vla.pipeline.summary import summarise
from posa_vla.workspace import Workspace

Output = dict[str, Any]


@task(cache_policy=NO_CACHE)
def collect(retraining: Retraining) -> Output:
    """Demonstrations of the scripted expert, into the episode store."""
    return data_steps.collect_demonstrations(retraining)


@task(cache_policy=NO_CACHE)
def version(retraining: Retraining) -> Output:
    """The store as versioned training data; what was found of it is shown with the run."""
    data = data_steps.version_data(retraining)
    show_data(retraining.workspace, data)
    return data


@task(cache_policy=NO_CACHE)
def train(retraining: Retraining, data: Output) -> Output:
    """A candidate, trained under Ray."""
    return train_steps.train_candidate(retraining, data)


@task(cache_policy=NO_CACHE)
def bundle(retraining: Retraining, trained: Output) -> Output:
    """The candidate as a bundle named by its content."""
    return train_steps.seal_bundle(retraining, trained)


@task(cache_policy=NO_CACHE)
def evaluate(retraining: Retraining, candidate: Output) -> Output:
    """Candidate and champion on the same unseen scenes."""
    return evaluate_steps.evaluate_candidate(retraining, candidate)


@task(cache_policy=NO_CACHE)
def decide(retraining: Retraining, evaluated: Output) -> Output:
    """Promote, reject, or no decision."""
    return evaluate_steps.decide_candidate(retraining, evaluated)


@task(cache_policy=NO_CACHE)
def register(retraining: Retraining, data: Output, trained: Output, evaluated: Output, decided: Output) -> Output:
    """A model version of the target's registered model, whatever the verdict."""
    return promote_steps.register_candidate(retraining, data, trained, evaluated, decided)


@task(cache_policy=NO_CACHE)
def release(retraining: Retraining, data: Output, evaluated: Output, decided: Output, registered: Output) -> Output:
    """A signed release on the channel; the champion is the new one."""
    return promote_steps.release_candidate(retraining, data, evaluated, decided, registered)


@task(cache_policy=NO_CACHE)
def robot(retraining: Retraining, released: Output) -> Output:
    """The simulated robot takes the release, verifies it, and runs it."""
    return robot_steps.run_on_robot(retraining, released)


@flow(name="retrain")
def retrain(
    preset: Preset | None = None,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
) -> Output:
    """Demonstrations, data version, training, evaluation, verdict, registration; after "promote" release and robot.

    Whatever was done for the same inputs is reused. "reject" and "no decision" are successful endings.

    Args:
        preset: Shipped overlay of the parameters: demo (eight minutes on two cores) or tiny (a minute, learns nothing).
        target: Deployment target, one of `targets` in the parameter file; empty for the file's own choice.
        changes: Single parameters that shall differ.
        params_file: Parameter file on the machine that runs the flow.
    """
    start = time.monotonic()
    params = resolve(preset, target, changes, params_file)
    with (
        also_to(get_run_logger().info),
        open_retraining(Workspace.open(), params, "a retraining", announce) as retraining,
    ):
        return {**_loop(retraining), "seconds": timed(start)}


def _loop(retraining: Retraining) -> Output:
    start = time.monotonic()
    collect(retraining)
    data = version(retraining)
    trained = train(retraining, data)
    candidate = bundle(retraining, trained)
    evaluated = evaluate(retraining, candidate)
    decided = decide(retraining, evaluated)
    registered = register(retraining, data, trained, evaluated, decided)
    released: Output | None = None
    reported = robot_steps.robot_state(retraining.workspace, retraining.params.target)
    if decided["verdict"] == "promote":
        released = release(retraining, data, evaluated, decided, registered)
        if released["release"] is not None:
            reported = robot(retraining, released)
    summary = summarise(
        retraining.steps, data, trained, evaluated, decided, registered, released, reported, timed(start)
    )
    show_retraining(retraining.workspace, summary, registered["run_id"], evaluated["reports"])
    return summary
