"""Train a candidate on a data version, and seal it as a bundle."""

from __future__ import annotations

import time
from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.objects.trees import has_tree
from posa_vla.params import Params
from posa_vla.pipeline.context import Retraining, timed
from posa_vla.training.storage import policy_path

# The code that decides what a training gives.
TRAINING_CODE = "posa_vla.training"


def training_inputs(data_version: str, params: Params) -> dict[str, Any]:
    """What a training's outcome depends on."""
    return {
        "data_version": data_version,
        "params": params.model_dump(mode="json", include={"model", "train", "prepare"}),
        "code": code_digest(TRAINING_CODE),
    }


def train_candidate(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any]:
    """Trains under Ray, with live curves in MLflow; continues from its last checkpoint after a crash.

    Args:
        retraining: The retraining.
        data: Output of `version_data`.

    Returns:
        `key` of the training; `seconds` that it took.
    """
    workspace, params = retraining.workspace, retraining.params

    def work(key: str) -> dict[str, Any]:
        start = time.monotonic()
        from posa_vla.training.submit import train_as_job

        train_as_job(
            retraining.jobs(),
            workspace.storage,
            workspace.home / data["folder"],
            data["version"],
            params,
            key,
            workspace.cache,
            retraining.tracked(data).log_metrics,
        )
        return {"seconds": timed(start), "key": key}

    result = retraining.ledger.step(
        "train",
        training_inputs(data["version"], params),
        work,
        sound=lambda output: _is_there(retraining, output),
    )
    return retraining.keep(result)


def _is_there(retraining: Retraining, output: dict[str, Any]) -> bool:
    return has_tree(retraining.workspace.storage, policy_path(output["key"]))


def find_trained(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any] | None:
    """The finished training of these parameters on a data version; see `train_candidate`."""
    output = retraining.ledger.find("train", training_inputs(data["version"], retraining.params))
    return output if output is not None and _is_there(retraining, output) else None
