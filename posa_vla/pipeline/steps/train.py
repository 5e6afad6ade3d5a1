"""Train a candidate on a data version."""

from __future__ import annotations

import time

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.store.quarantine import by_prefix
from posa_vla.errors import BadInput
from posa_vla.ledger import Inputs, Ledger
from posa_vla.objects.trees import has_tree
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, timed
from posa_vla.pipeline.records import Trained
from posa_vla.pipeline.steps.bundle import sealed_trainings
from posa_vla.promotion.champion import champion_bundle, withdrawn
from posa_vla.release.bundle_store import bundle_at_hand
from posa_vla.training.storage import policy_path
from posa_vla.workspace import Workspace

# The code that decides what a training gives.
TRAINING_CODE = "posa_vla.training"


def training_inputs(data_version: str, params: Params, start: str | None = None) -> Inputs:
    """What a training's outcome depends on; `start` is the bundle digest of the policy that it starts from."""
    return {
        "data_version": data_version,
        "params": params.model_dump(mode="json", include={"model", "train", "prepare"}),
        "code": code_digest(TRAINING_CODE),
        **({} if start is None else {"start": start}),
    }


def starting_bundle(workspace: Workspace, params: Params, data_version: str | None = None) -> str | None:
    """The bundle that a training of the chosen target starts from; None for random weights.

    A champion that this very training gave is not started from again: the same command trains once, and what it
    started from then is what it starts from.

    Args:
        workspace: Has the target's log and its bundles.
        params: Name the target.
        data_version: What is trained on, where that is known.

    Raises:
        BadInput: There is no such bundle, or it was rolled back from.
    """
    asked, target = params.chosen.start_from, params.target
    if asked == "scratch":
        return None
    if asked == "champion":
        champion = champion_bundle(workspace, target)
        if champion is None or data_version is None:
            return champion
        return _before(workspace, params, data_version, champion)
    known = [folder.name for folder in workspace.bundles.glob("*") if folder.is_dir()]
    bundle = by_prefix(asked, known, "bundle")
    reason = withdrawn(workspace, target, bundle)
    if reason is not None:
        raise BadInput(
            f"targets.{target}.start_from {asked}: this policy was rolled back from ({reason}); start from "
            "another, from the champion, or from scratch"
        )
    return bundle


def require_starting_bundle(workspace: Workspace, params: Params) -> None:
    """Stops before a retraining whose policy to start from cannot be trained on, whatever its data will be.

    Raises:
        BadInput: See `starting_bundle`; or the policy has other cameras, another action space, or is another model.
        PosaError: The policy is lost.
    """
    bundle = starting_bundle(workspace, params)
    if bundle is not None:
        from posa_vla.model.start import require_startable

        folder = bundle_at_hand(workspace, bundle)
        require_startable(folder, load_embodiment(params.chosen.embodiment), params)


def _before(workspace: Workspace, params: Params, data_version: str, champion: str) -> str | None:
    """What the training started from that gave the champion, if it is this one; else the champion."""
    sealed = {key for key, bundle in sealed_trainings(workspace) if bundle == champion}
    mine = training_inputs(data_version, params)
    for step in Ledger(workspace).entries("train"):
        same = {name: value for name, value in step.inputs.items() if name != "start"} == mine
        if same and step.output.get("key") in sealed:
            before = step.inputs.get("start")
            return None if before is None else str(before)
    return champion


def train(context: StepContext, data: DataVersion) -> Trained:
    """Trains under Ray, with live curves in MLflow; continues from its last checkpoint after a crash."""
    workspace, params = context.workspace, context.params
    # An ablation's variants are other models than any that there is.
    start = None if context.experiment else starting_bundle(workspace, params, data.version)

    def work(key: str) -> Trained:
        begun = time.monotonic()
        if start is None and context.target.start_from == "champion" and not context.experiment:
            say(f"target {params.target!r} has no champion to start from: its training starts from scratch")
        from posa_vla.training.start import Start
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
            None if start is None else Start(bundle_at_hand(workspace, start), start),
        )
        return Trained(data=data, key=key, seconds=timed(begun), start=start)

    result = context.ledger.step(
        "train",
        training_inputs(data.version, params, start),
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
    start = starting_bundle(context.workspace, context.params, data.version)
    inputs = training_inputs(data.version, context.params, start)
    trained = context.ledger.find("train", inputs, Trained, before={"data": data})
    return trained if trained is not None and _is_there(context, trained) else None
