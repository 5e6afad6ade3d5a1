"""An untrained candidate before the gate of a finished retraining: the same steps, up to the verdict."""

from __future__ import annotations

import time
from typing import Any

from flows.champion import champion_bundle
from flows.data import find_data
from flows.evaluate import decide_candidate, evaluate_candidate
from flows.retraining import Retraining, open_retraining, timed
from flows.robot import robot_state
from posa_vla.code_digest import code_digest
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.workspace import Workspace


def _untrained_bundle(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    from posa_vla.model.posa_policy import initial_policy_files
    from posa_vla.release.bundle import build_bundle

    workspace, params = retraining.workspace, retraining.params

    def work(key: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            initial_policy_files(workspace.home / data["folder"], params, Path(name), params.train.seed)
            return {"digest": build_bundle(Path(name), workspace.bundles).digest}

    inputs = {
        "data_version": data["version"],
        "params": params.model_dump(mode="json", include={"model", "prepare"}),
        "seed": params.train.seed,
        "code": code_digest("posa_vla.model", "posa_vla.release.bundle"),
    }
    result = retraining.ledger.step(
        "untrained", inputs, work, sound=lambda output: (workspace.bundles / output["digest"]).is_dir()
    )
    return retraining.keep(result)


def run_reject(workspace: Workspace, params: Params, options: str) -> dict[str, Any]:
    """Judges an untrained candidate against the champion; nothing is registered or released.

    Args:
        workspace: With a finished retraining.
        params: Of that retraining.
        options: How the retraining is called, for the message.

    Returns:
        `bundle`, `evaluation`, `decision`, `robot`, `seconds`.

    Raises:
        BadInput: The workspace has no champion, or no data of these parameters.
    """
    start = time.monotonic()
    with open_retraining(workspace, params, "posa demo reject") as retraining:
        data = find_data(retraining)
        if data is None or champion_bundle(workspace, params.target) is None:
            raise BadInput(f"workspace {workspace.home} has no champion to defend: run `posa retrain {options}` first")
        candidate = _untrained_bundle(retraining, data)
        evaluated = evaluate_candidate(retraining, candidate)
        decided = decide_candidate(retraining, evaluated)
        return {
            "bundle": candidate["digest"],
            "evaluation": evaluated["summary"],
            "decision": {"verdict": decided["verdict"], "reasons": decided["reasons"]},
            "robot": robot_state(workspace, params.target),
            "seconds": timed(start),
        }
