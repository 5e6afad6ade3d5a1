"""Promotion alone: the trained candidate of some parameters before the gate, and onto the channel if it passes."""

from __future__ import annotations

import time
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announce, silent
from posa_vla.pipeline.context import open_retraining, timed
from posa_vla.pipeline.steps.bundle import seal_bundle
from posa_vla.pipeline.steps.decide import decide_candidate
from posa_vla.pipeline.steps.evaluate import evaluate_candidate
from posa_vla.pipeline.steps.register import register_candidate
from posa_vla.pipeline.steps.release import release_candidate
from posa_vla.pipeline.steps.train import find_trained
from posa_vla.pipeline.steps.version import find_data
from posa_vla.workspace import Workspace


def run_promotion(workspace: Workspace, params: Params, announce: Announce = silent) -> dict[str, Any]:
    """Judges, registers and, after "promote", releases what was trained with `params`; done steps are reused.

    Returns:
        `bundle`, `evaluation`, `decision`, `model_version`, `release` (null if nothing was), `pending`, `seconds`.

    Raises:
        BadInput: Nothing was trained with these parameters on the data as it is.
    """
    start = time.monotonic()
    with open_retraining(workspace, params, "posa promote", announce) as retraining:
        data = find_data(retraining)
        trained = None if data is None else find_trained(retraining, data)
        if data is None or trained is None:
            raise BadInput(
                f"workspace {workspace.home} holds no candidate of these parameters: posa retrain trains one"
            )
        candidate = seal_bundle(retraining, trained)
        evaluated = evaluate_candidate(retraining, candidate)
        decided = decide_candidate(retraining, evaluated)
        registered = register_candidate(retraining, data, trained, evaluated, decided)
        released = None
        if decided["verdict"] == "promote":
            released = release_candidate(retraining, data, evaluated, decided, registered)
        return {
            "bundle": candidate["digest"],
            "evaluation": evaluated["summary"],
            "decision": {"verdict": decided["verdict"], "reasons": decided["reasons"]},
            "model_version": registered["model_version"],
            "release": released["release"] if released else None,
            "pending": released["pending"] if released else None,
            "seconds": timed(start),
        }
