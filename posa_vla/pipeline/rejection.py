"""An untrained candidate before the gate of a finished retraining: the same steps, up to the verdict."""

from __future__ import annotations

import time
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.pipeline.context import open_retraining, timed
from posa_vla.pipeline.steps.bundle import _untrained_bundle
from posa_vla.pipeline.steps.decide import decide_candidate
from posa_vla.pipeline.steps.evaluate import evaluate_candidate
from posa_vla.pipeline.steps.robot import robot_state
from posa_vla.pipeline.steps.version import find_data
from posa_vla.promotion.champion import champion_bundle
from posa_vla.workspace import Workspace


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
