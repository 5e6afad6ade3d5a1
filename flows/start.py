"""Start a retraining: hold the workspace, bring up Prefect's server meanwhile, run the flow."""

from __future__ import annotations

import time
from typing import Any

from flows.prefect_server import prefect_server
from flows.retraining import open_retraining, timed
from posa_vla.params import Params
from posa_vla.workspace import Workspace


def run_retraining(workspace: Workspace, params: Params) -> dict[str, Any]:
    """Runs the flow on a workspace that nobody else holds.

    Returns:
        The summary: see flows/summary.py.

    Raises:
        BadInput: Something that the work needs is missing.
        Busy: Another run holds the workspace.
    """
    start = time.monotonic()
    with open_retraining(workspace, params, "posa retrain") as retraining, prefect_server(workspace.home) as server:
        from flows.flow_runs import await_recorded, close_dead_runs
        from flows.retrain import retrain_flow

        server.ready()
        if server.embedded:
            close_dead_runs(retrain_flow.name)
        state = retrain_flow(retraining, return_state=True)
        await_recorded(state.state_details.flow_run_id)
        summary: dict[str, Any] = state.result()
    return {**summary, "seconds": timed(start)}
