"""Start a retraining from the command line: what is missing first, then Prefect's server, then the flow."""

from __future__ import annotations

import time
from pathlib import Path

from flows.form import Changes, resolve
from flows.server.prefect_server import prefect_server, refuse_settings_of_folder
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.evaluation.rollout import require_trainable
from posa_vla.pipeline.context import open_context, timed
from posa_vla.pipeline.summary import RetrainingSummary
from posa_vla.pipeline.target import collects, require_target
from posa_vla.schema import parse
from posa_vla.workspace import Workspace


def run_retraining(workspace: Workspace, preset: str | None, changes: Changes, params_file: Path) -> RetrainingSummary:
    """Runs the flow on a workspace that nobody else holds.

    Raises:
        BadInput: Something that the work needs is missing.
        Busy: Another run holds the workspace.
    """
    start = time.monotonic()
    params = resolve(preset, None, changes, str(params_file))
    require_target(workspace, params)
    if collects(params, load_embodiment(params.chosen.embodiment)):
        require_trainable(params)
    # What is missing is said at once, not after Prefect has started; the flow takes the same lock again.
    with open_context(workspace, params, "posa retrain"), prefect_server(workspace.home, workspace.settings) as server:
        from flows.retrain import retrain
        from flows.server.flow_runs import await_recorded, close_dead_runs

        refuse_settings_of_folder()
        server.ready()
        if server.embedded:
            close_dead_runs(retrain.name)
        state = retrain(preset=preset, changes=changes, params_file=str(params_file), return_state=True)
        await_recorded(state.state_details.flow_run_id)
        summary = parse(RetrainingSummary, state.result(), "the flow's result")
    return summary.model_copy(update={"seconds": timed(start)})
