"""What a target asks of a retraining, and what it has to be for one to begin."""

from __future__ import annotations

from collections import Counter

from posa_vla.dataset.shards.prepare import imitable, unfit
from posa_vla.episodes.embodiment import Embodiment, load_embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.target_params import EVERYTHING, Where
from posa_vla.workspace import Workspace

# What is listed of the store, so that a filter can be mended.
_LISTED = 4


def collects(params: Params, embodiment: Embodiment) -> bool:
    """Whether a retraining of the chosen target has the simulator's expert demonstrate first.

    Raises:
        BadInput: It is asked for, and the embodiment has no simulator.
    """
    asked, simulated = params.chosen.data.collect, embodiment.arm is not None
    if asked and not simulated:
        raise BadInput(
            f"targets.{params.target}.data.collect is true, and embodiment {embodiment.id} declares no `arm`: the "
            "simulator cannot collect with it. Leave it out, or set it to false"
        )
    return simulated if asked is None else asked


def filter_for(params: Params, embodiment: str) -> Where:
    """The filter that the chosen target has for episodes of an embodiment; of another one than its own, none."""
    where = params.chosen.data.where
    if where == EVERYTHING:
        return where
    try:
        return where if load_embodiment(params.chosen.embodiment).id == embodiment else EVERYTHING
    except BadInput:
        return EVERYTHING  # the target's file is not at hand: what it asks for concerns another robot


def require_simulator(params: Params, purpose: str) -> None:
    """Stops before work that the chosen target's embodiment has no simulator for.

    Raises:
        BadInput: The embodiment declares no `arm`.
    """
    embodiment = load_embodiment(params.chosen.embodiment)
    if embodiment.arm is None:
        raise BadInput(
            f"{purpose} needs a simulator, and embodiment {embodiment.id} of target {params.target!r} declares no "
            "`arm`: `posa evaluate offline` compares its policies with held-out episodes"
        )


def require_target(workspace: Workspace, params: Params) -> None:
    """Stops before a retraining of the chosen target that could not come to an end; nothing is begun.

    Raises:
        BadInput: The embodiment has no simulator, and one is asked for; or nothing in the store is to be learned from.
    """
    target, embodiment = params.chosen, load_embodiment(params.chosen.embodiment)
    if collects(params, embodiment):
        if _drops_the_expert(target.data.where, embodiment):
            _require_episodes(EpisodeStore(workspace.store), params, embodiment)
        return
    if "simulation" in target.evidence and embodiment.arm is None:
        raise BadInput(
            f"target {params.target!r} asks for evidence from simulation, and embodiment {embodiment.id} declares no "
            f"`arm` to simulate: set targets.{params.target}.evidence=[offline,robot]"
        )
    _require_episodes(EpisodeStore(workspace.store), params, embodiment)


def _drops_the_expert(where: Where, embodiment: Embodiment) -> bool:
    """Whether a filter drops whatever the simulator's expert shows: its batches have no names before they are there."""
    unfit = set(where.unfit(embodiment=embodiment.id, instruction="", source="sim", batch=""))
    return bool(unfit - {"instruction"})


def _require_episodes(store: EpisodeStore, params: Params, embodiment: Embodiment) -> None:
    """Stops where the store holds nothing that the target learns from."""
    where, key = params.chosen.data.where, f"targets.{params.target}.data.where"
    replaced, found, against = store.replaced(), 0, Counter[str]()
    there: dict[str, set[str]] = {"embodiment": {embodiment.id}, "instruction": set(), "source": set(), "batch": set()}
    for batch, reader in store.readers():
        if reader.embodiment.id != embodiment.id:
            continue
        for record in reader.records:
            if record.extra.digest in replaced or not imitable(record):
                continue
            keys = unfit(where, batch, reader, record)
            if not keys:
                return
            found += 1
            against.update(keys)
            there["instruction"].add(record.instruction)
            there["source"].add(record.extra.source)
            there["batch"].add(batch[:12])
    if not found and collects(params, embodiment):
        raise BadInput(
            f"{key} drops what the simulator's expert shows (source sim, in batches that are not named yet), and "
            f"{store.root} holds nothing else of embodiment {embodiment.id}: take source and batch out of the filter, "
            f"or take recordings in and set targets.{params.target}.data.collect=false"
        )
    if not found:
        raise BadInput(
            f"{store.root} holds no successful episode of embodiment {embodiment.id}, and target {params.target!r} "
            "collects none: take recordings in with `posa data ingest PATH`"
        )
    # The keys that leave nothing by themselves; where it takes several to do so, all of them.
    alone = [name for name, count in against.items() if count == found] or list(against)
    said = "; ".join(f"{name}: {_listed(there[name])}" for name in alone)
    raise BadInput(
        f"{key} leaves none of {found} episodes of embodiment {embodiment.id}: {' and '.join(alone)} "
        f"{'fits' if len(alone) == 1 else 'fit'} none. There are: {said}"
    )


def _listed(values: set[str]) -> str:
    names = [repr(value) for value in sorted(values)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
