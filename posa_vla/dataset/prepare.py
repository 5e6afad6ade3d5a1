"""From a validated store to training shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posa_vla.console import progress
from posa_vla.dataset.pack import pack_episodes
from posa_vla.episodes.embodiment import UNSTATED, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot_v3 import DatasetReader, EpisodeRecord
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import require_free_space
from posa_vla.params import PrepareParams


def meant_otherwise(recorded: Embodiment, declared: Embodiment) -> list[str]:
    """What recorded numbers mean otherwise than an embodiment declares now.

    Limits and models may change without changing it, and what was unstated when it was recorded may be stated since.
    """

    def meaning(embodiment: Embodiment) -> dict[str, list[str]]:
        return {
            "cameras": sorted(embodiment.cameras),
            "state": [part for channel in embodiment.state for part in (channel.name, channel.unit)],
            "action": [part for channel in embodiment.action for part in (channel.name, channel.unit)],
            "action_frame": [embodiment.action_frame],
            "control_hz": [str(embodiment.control_hz)],
        }

    before, now = meaning(recorded), meaning(declared)
    return [
        name
        for name, parts in now.items()
        if len(parts) != len(before[name])
        or any(old not in {new, UNSTATED} for old, new in zip(before[name], parts, strict=True))
    ]


def _chosen(
    store: EpisodeStore, report: dict[str, Any], embodiment: Embodiment
) -> list[tuple[DatasetReader, list[EpisodeRecord]]]:
    """The batches of an embodiment with the episodes to learn from: successful, with no severe finding."""
    quarantined = {(row["batch"], row["episode"]) for row in report["quarantined"]}
    chosen = []
    for batch in store.batches():
        if (batch, None) in quarantined:
            continue
        reader = DatasetReader(store.folder(batch))
        if reader.embodiment.id != embodiment.id:
            continue
        if unlike := meant_otherwise(reader.embodiment, embodiment):
            raise BadInput(
                f"batch {batch[:12]} was recorded when embodiment {embodiment.id} had other {', '.join(unlike)}: "
                "give the changed robot an id of its own, or take the batch out of the store"
            )
        records = [r for r in reader.records if imitable(r) and (batch, r.number) not in quarantined]
        chosen.append((reader, records))
    return chosen


def imitable(record: EpisodeRecord) -> bool:
    """Whether an episode's actions are worth imitating: its task was done, or an expert has relabelled each of them."""
    collected = record.extra.scene.get("collected")
    return record.extra.success or (isinstance(collected, dict) and collected.get("how") == "dagger")


def prepare(
    store_folder: Path, report: dict[str, Any], embodiment: Embodiment, params: PrepareParams, out: Path
) -> dict[str, Any]:
    """Packs the successful, sound episodes of one embodiment.

    Args:
        store_folder: An episode store.
        report: What `validate` said of this very store.
        embodiment: Whose episodes are packed; its declaration goes into the manifest.
        params: Split and labels.
        out: Folder that appears whole (see `pack_episodes`).

    Returns:
        The manifest.

    Raises:
        BadInput: The report is of another store, or nothing is left to learn from.
    """
    store = EpisodeStore(store_folder)
    if report.get("store_digest") != store.digest():
        raise BadInput(f"the report is of another store than {store_folder}: run `posa data validate` again")
    chosen = _chosen(store, report, embodiment)
    episodes = sum(len(records) for _, records in chosen)
    if not episodes:
        raise BadInput(
            f"{store_folder} has no sound, successful episode of embodiment {embodiment.id} "
            f"({len(report['quarantined'])} quarantined): see the report's findings, or collect more"
        )
    # Twice: the rows of each tensor, then the shard made of them.
    require_free_space(
        out, 2 * sum(_bytes(reader, records, params) for reader, records in chosen), "preparing the data"
    )

    with progress("prepare", episodes, unit="episode") as advance:

        def read() -> Iterator[Episode]:
            for reader, records in chosen:
                for record in records:
                    yield reader.episode(record)
                    advance(1)

        return pack_episodes(read(), embodiment, params, out, source_digest=store.digest())


def _bytes(reader: DatasetReader, records: list[EpisodeRecord], params: PrepareParams) -> int:
    return sum(record.length for record in records) * len(reader.embodiment.cameras) * 3 * params.image_size**2
