"""Prefect's record of flow runs, brought to the truth: after a kill before this run, and at the end of this one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Crashed

from posa_vla.errors import PosaError
from posa_vla.params import Params
from posa_vla.pipeline.report.preset import preset_of

# A heartbeat that is late is not a dead run, nor are those that a server lost while it started anew.
_MISSED_HEARTBEATS, _SHORTEST_SILENCE = 3, timedelta(seconds=180)


def name_run(params: Params, *more: str) -> None:
    """Names the flow run that this is called in for what it is, instead of Prefect's two random words.

    Args:
        params: Name the target, and the preset that they come from.
        more: What is known besides, e.g. the data version's name.
    """
    call_run(", ".join([params.target, f"preset {preset_of(params)}", *more]))


def call_run(name: str) -> None:
    """Names the flow run that this is called in."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=name)


def close_dead_runs(flow_name: str) -> int:
    """Marks runs that are recorded as running as crashed; the caller holds the workspace, so none of them lives.

    Returns:
        How many there were.
    """
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    with get_client(sync_client=True) as client:
        dead = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])), flow_run_filter=FlowRunFilter(state=running)
        )
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
    return len(dead)


def longest_silence() -> timedelta:
    """How long a run of a deployment may go without a heartbeat before its process counts as gone."""
    heartbeat = get_current_settings().flows.heartbeat_frequency or 180
    return max(_MISSED_HEARTBEATS * timedelta(seconds=heartbeat), _SHORTEST_SILENCE)


def close_silent_runs() -> list[str]:
    """Marks a deployment's runs that are recorded as running and have long given no sign of life as crashed.

    Returns:
        Their names.

    Raises:
        PosaError: The server does not answer.
    """
    try:
        return [run.name for run in _close_silent_runs()]
    except httpx.HTTPError as error:
        raise PosaError(f"Prefect (setting POSA_PREFECT_API_URL): {type(error).__name__}: {error}") from None


def _close_silent_runs() -> list[FlowRun]:
    since = datetime.now(UTC) - longest_silence()
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    silent = []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running)):
            # Prefect's workers send heartbeats; a flow that a person runs in a terminal has none.
            if run.deployment_id is None or run.state is None or run.state.timestamp > since:
                continue
            signs = {
                "occurred": {"since": since.isoformat()},
                "event": {"prefix": ["prefect.flow-run."]},
                "resource": {"id": [f"prefect.flow-run.{run.id}"]},
            }
            answer = client.request("POST", "/events/filter", json={"filter": signs, "limit": 1})
            if not answer.json()["events"]:
                client.set_flow_run_state(run.id, Crashed(message="no heartbeat: its process is gone"), force=True)
                silent.append(run)
    return silent


def await_recorded(flow_run_id: UUID | None, timeout: float = 5.0) -> None:
    """Waits until the server has written the end of every task: it does so a moment after the flow has ended."""
    if flow_run_id is None:
        return
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + timeout
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=mine)
            if runs and all(run.state is not None and run.state.is_final() for run in runs):
                return
            time.sleep(0.1)
