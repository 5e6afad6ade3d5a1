"""Prefect's record of flow runs, brought to the truth: after a kill before this run, and at the end of this one."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed


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
