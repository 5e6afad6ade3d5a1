"""Collect demonstrations of the scripted expert into the episode store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from posa_vla.code_digest import code_digest
from posa_vla.params import CollectParams
from posa_vla.pipeline.announcements import DataIngested
from posa_vla.pipeline.context import Retraining
from posa_vla.pipeline.steps.version import DATA_WAIT

if TYPE_CHECKING:
    from posa_vla.sim.collect import Learner


def collection_inputs(retraining: Retraining, collect: CollectParams, learner: Learner | None = None) -> dict[str, Any]:
    """All that decides which episodes the expert gives."""
    return {
        "embodiment": retraining.embodiment_key(),
        "task": retraining.target.task,
        "collect": collect.model_dump(mode="json"),
        "learner": None if learner is None else learner.digest,
        "code": code_digest("posa_vla.sim.collect", "posa_vla.episodes.store.episode_store"),
    }


def collect_demonstrations(retraining: Retraining, learner: Learner | None = None) -> dict[str, Any]:
    """Has the scripted expert solve scenes, and appends its episodes to the store as one batch; a new one is announced.

    Args:
        retraining: Whose target, and how many.
        learner: A policy whose rollouts the expert relabels instead (DAgger); its bundle is verified.

    Returns:
        `batch`, the batch's digest.

    Raises:
        BadInput: What is collected would be blown up for training.
    """
    from posa_vla.episodes.lerobot.reader import DatasetReader
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.evaluation.rollout import require_trainable

    require_trainable(retraining.params)
    store = EpisodeStore(retraining.workspace.store)
    before = store.batches()
    target, collect_params = retraining.target, retraining.params.collect

    def work(key: str) -> dict[str, Any]:
        from posa_vla.sim.collect import collect

        # Kept outside the store, so that a killed collection continues; of no use once the batch is there.
        parts = retraining.workspace.home / "collecting"
        episodes = collect(target.embodiment, target.task, collect_params, parts, learner=learner)
        with retraining.workspace.lock("a collection", "data.lock", wait=DATA_WAIT):
            batch = store.append(episodes, retraining.embodiment)
        shutil.rmtree(parts, ignore_errors=True)
        return {"batch": batch}

    inputs = collection_inputs(retraining, collect_params, learner)
    result = retraining.ledger.step("collect", inputs, work, sound=lambda out: str(out["batch"]) in store.batches())
    batch = str(result.output["batch"])
    if batch not in before:
        episodes = len(DatasetReader(store.folder(batch)))
        retraining.announce(DataIngested(batch, episodes, retraining.params.target))
    return retraining.keep(result)
