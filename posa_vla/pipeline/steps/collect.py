"""Collect demonstrations of the scripted expert into the episode store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from posa_vla.code_digest import code_digest
from posa_vla.ledger import Inputs
from posa_vla.params import CollectParams
from posa_vla.pipeline.announcements import DataIngested
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Collected
from posa_vla.pipeline.steps.version import DATA_WAIT

if TYPE_CHECKING:
    from posa_vla.sim.collect import Learner


def collection_inputs(context: StepContext, params: CollectParams, learner: Learner | None = None) -> Inputs:
    """All that decides which episodes the expert gives."""
    return {
        "embodiment": context.embodiment_key(),
        "task": context.target.task,
        "collect": params.model_dump(mode="json"),
        "learner": None if learner is None else learner.digest,
        "way": None if learner is None or learner.way is None else learner.way.model_dump(mode="json"),
        "code": code_digest("posa_vla.sim.collect", "posa_vla.episodes.store.episode_store"),
    }


def collect(context: StepContext, learner: Learner | None = None) -> Collected:
    """Has the scripted expert solve scenes, and appends its episodes to the store as one batch; a new one is announced.

    Args:
        context: Whose target, and how many.
        learner: A policy whose rollouts the expert relabels instead (DAgger); its bundle is verified.

    Raises:
        BadInput: What is collected would be blown up for training.
    """
    from posa_vla.episodes.lerobot.reader import DatasetReader
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.evaluation.rollout import require_trainable

    require_trainable(context.params)
    store = EpisodeStore(context.workspace.store)
    before = store.batches()
    target, params = context.target, context.params.collect

    def work(key: str) -> Collected:
        from posa_vla.sim.collect import collect as demonstrations

        # Kept outside the store, so that a killed collection continues; of no use once the batch is there.
        parts = context.workspace.home / "collecting"
        episodes = demonstrations(target.embodiment, target.task, params, parts, learner=learner)
        with context.workspace.lock("a collection", "data.lock", wait=DATA_WAIT):
            batch = store.append(episodes, context.embodiment)
        shutil.rmtree(parts, ignore_errors=True)
        return Collected(batch=batch)

    inputs = collection_inputs(context, params, learner)
    result = context.ledger.step("collect", inputs, Collected, work, sound=lambda made: made.batch in store.batches())
    batch = result.record.batch
    if batch not in before:
        episodes = len(DatasetReader(store.folder(batch)))
        context.announce(DataIngested(batch, episodes, context.params.target))
    return context.keep(result)
