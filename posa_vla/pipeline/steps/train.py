"""Train a candidate on a data version."""

from __future__ import annotations

import time

from posa_vla.code_digest import code_digest
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.ledger import Inputs
from posa_vla.objects.trees import has_tree
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, timed
from posa_vla.pipeline.records import Trained
from posa_vla.training.storage import policy_path

# The code that decides what a training gives.
TRAINING_CODE = "posa_vla.training"


def training_inputs(data_version: str, params: Params) -> Inputs:
    """What a training's outcome depends on."""
    return {
        "data_version": data_version,
        "params": params.model_dump(mode="json", include={"model", "train", "prepare"}),
        "code": code_digest(TRAINING_CODE),
    }


def train(context: StepContext, data: DataVersion) -> Trained:
    """Trains under Ray, with live curves in MLflow; continues from its last checkpoint after a crash."""
    workspace, params = context.workspace, context.params

    def work(key: str) -> Trained:
        start = time.monotonic()
        from posa_vla.training.submit import train_as_job

        train_as_job(
            context.jobs(),
            workspace.storage,
            workspace.home / data.folder,
            data.version,
            params,
            key,
            workspace.cache,
            context.tracked(data).log_metrics,
        )
        return Trained(data=data, key=key, seconds=timed(start))

    result = context.ledger.step(
        "train",
        training_inputs(data.version, params),
        Trained,
        work,
        sound=lambda trained: _is_there(context, trained),
        before={"data": data},
    )
    return context.keep(result)


def _is_there(context: StepContext, trained: Trained) -> bool:
    return has_tree(context.workspace.storage, policy_path(trained.key))


def find_trained(context: StepContext, data: DataVersion) -> Trained | None:
    """The finished training of these parameters on a data version; see `train`."""
    inputs = training_inputs(data.version, context.params)
    trained = context.ledger.find("train", inputs, Trained, before={"data": data})
    return trained if trained is not None and _is_there(context, trained) else None
