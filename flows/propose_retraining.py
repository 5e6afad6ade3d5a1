"""Propose a retraining once enough new episodes have come; a person answers in Prefect's page, or it expires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.form import NO_CHANGES, Changes, Preset, resolve
from flows.server.events import retraining_proposed
from posa_vla.console import also_to, say
from posa_vla.errors import BadInput
from posa_vla.pipeline.proposal import StoreState, store_state
from posa_vla.workspace import Workspace

NAME = "propose-retraining"
RETRAIN = "retrain/default"


class Answer(RunInput):
    """What the person decides; Prefect records nobody's name, so that it is asked for."""

    approve: bool = Field(title="Retrain", description="Start the retraining; otherwise the proposal ends here.")
    decided_by: str = Field(title="Your name", description="Who decides; it stands in the log.", min_length=1)


def pause_key(target: str) -> str:
    """What a waiting proposal is known by; without the store's state, which may change until the answer comes."""
    return f"{NAME}-{target}"


def idempotency_key(target: str, state: StoreState) -> str:
    """What a retraining that was approved is known by: one state of the store is retrained on once."""
    return f"{NAME}-{target}-{state.digest}"


def _order(run: FlowRun) -> tuple[float, str]:
    return (run.start_time.timestamp() if run.start_time else float("inf"), str(run.id))


def other_proposal(mine: FlowRun, others: Iterable[FlowRun], target: str) -> FlowRun | None:
    """The run that waits for a person already, or is about to: of two that start at once, the earlier one."""
    for other in others:
        if other.id == mine.id or other.state is None:
            continue
        if other.state.is_paused() and other.state.state_details.pause_key == pause_key(target):
            return other
        if other.state.is_running() and other.parameters == mine.parameters and _order(other) < _order(mine):
            return other
    return None


def approved(answer: Answer) -> bool:
    """Whether the answer starts a retraining; asked again here, because what resumed the run may not be the page.

    Raises:
        BadInput: Yes, from nobody.
    """
    if answer.approve and not answer.decided_by.strip():
        raise BadInput("approved by nobody: expected a name; start the flow again, and give one")
    return answer.approve


def proposal_markdown(target: str, state: StoreState, new_episodes: int, expires_hours: int) -> str:
    """The proposal for Prefect's page."""
    return (
        f"# Retrain {target}?\n\n- {state.new} episodes are new, of {state.usable}; the threshold is {new_episodes}\n"
        f"- newest data version: {state.versioned} episodes\n- store: `{state.digest}`\n\n"
        f"Resume this run to answer, within {expires_hours} hours; otherwise it fails, and nothing is retrained.\n"
    )


def _this_run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        raise BadInput(
            "a proposal waits on a Prefect server: start the deployment propose-retraining (docs/servers.md)"
        )
    with get_client(sync_client=True) as client:
        return client.read_flow_run(context.flow_run.id)


def _open_proposals() -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED, StateType.RUNNING]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[NAME])), flow_run_filter=FlowRunFilter(state=states)
        )


def _start_retraining(parameters: Mapping[str, object], key: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(RETRAIN)
        return client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters), idempotency_key=key)


@flow(name=NAME)
def propose_retraining(
    new_episodes: Annotated[int, Field(gt=0)] = 100,
    preset: Preset | None = None,
    target: str | None = None,
    changes: Changes = NO_CHANGES,
    params_file: str = "params.yaml",
    expires_hours: Annotated[int, Field(gt=0)] = 72,
) -> dict[str, str | int | None]:
    """Asks a person whether to retrain, where enough new episodes have come; nothing is retrained without an answer.

    The run waits, suspended, for somebody who resumes it in Prefect's page; it fails when nobody does in time.

    Args:
        new_episodes: How many episodes must have come since the newest data version.
        preset: Preset of the retraining that is proposed.
        target: Its deployment target; empty for the parameter file's own choice.
        changes: Single parameters of it that shall differ.
        params_file: Parameter file on the machine that runs the flow.
        expires_hours: How long the proposal waits.
    """
    with also_to(get_run_logger().info):
        workspace, params = Workspace.open(), resolve(preset, target, changes, params_file)
        state, run, key = store_state(workspace, params), _this_run(), pause_key(params.target)
        if state.new < new_episodes:
            return _end(state, f"nothing to propose: {state.new} new episodes, the threshold is {new_episodes}")
        # A run that was resumed starts from the top, and has been announced already.
        if key not in (run.empirical_policy.pause_keys or set()):
            if workspace.held():
                return _end(state, "nothing to propose: a run that holds the workspace may take these episodes itself")
            other = other_proposal(run, _open_proposals(), params.target)
            if other is not None:
                return _end(state, f"nothing to propose: run {other.name!r} of this flow waits for an answer already")
            proposal = proposal_markdown(params.target, state, new_episodes, expires_hours)
            create_markdown_artifact(proposal, key="retraining-proposal")
            retraining_proposed(params.target, state.new, f"{proposal}\nRun {run.name}")
        answer = suspend_flow_run(wait_for_input=Answer, timeout=expires_hours * 3600, key=key)
        if not approved(answer):
            return _end(state, f"declined by {answer.decided_by}")
        parameters = {
            "preset": preset,
            "target": params.target,
            "changes": changes.model_dump(mode="json"),
            "params_file": params_file,
        }
        started = _start_retraining(parameters, idempotency_key(params.target, state))
        status = "unknown" if started.state is None else started.state.name
        return _end(state, f"approved by {answer.decided_by}: retraining {started.name!r}, {status}", str(started.id))


def _end(state: StoreState, outcome: str, retraining: str | None = None) -> dict[str, str | int | None]:
    say(outcome)
    return {"new_episodes": state.new, "outcome": outcome, "retraining": retraining}
