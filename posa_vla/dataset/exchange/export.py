"""The store's sound episodes as one LeRobot dataset v3.0, for whatever else reads those."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posa_vla.console import progress
from posa_vla.dataset.validation.report import ValidationReport
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, write_dataset
from posa_vla.episodes.store.declared import meant_otherwise
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.episodes.store.quarantine import by_prefix
from posa_vla.errors import BadInput
from posa_vla.files import require_free_space


def export(
    store: EpisodeStore,
    report: ValidationReport,
    out: Path,
    *,
    batches: list[str] | None = None,
    embodiment: str = "",
    failures: bool = False,
    declared: Mapping[str, Embodiment] | None = None,
    since: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Writes one dataset; pictures stay as they are encoded, and the folder appears whole.

    Args:
        store: Where the episodes are.
        report: What `validate` said of this store: quarantined episodes are left out.
        out: New folder.
        batches: First digits of the batches to take; all by default.
        embodiment: Id of the embodiment whose episodes are taken, where the store has several.
        failures: Whether episodes whose task was not done are taken, too.
        declared: Id -> the embodiment as it is declared now; by default, or where the episodes' numbers mean something
            else by it, the declaration of the batch that was appended last.
        since: Batch -> which version is the first that has it; a batch that is in none was appended after all others.

    Returns:
        `folder`, `embodiment`, `episodes`, `frames`, `left_out` (quarantined, superseded or failed).

    Raises:
        BadInput: There is nothing to export, episodes do not fit one dataset, `out` exists, or the disk is too full.
    """
    if out.exists():
        raise BadInput(f"{out} exists already: choose a new folder")
    chosen = [by_prefix(prefix, store.batches(), "batch") for prefix in batches or store.batches()]
    readers = [(batch, DatasetReader(store.folder(batch))) for batch in chosen]
    ids = sorted({reader.embodiment.id for _, reader in readers})
    if not embodiment and len(ids) > 1:
        raise BadInput(f"the store has episodes of {', '.join(ids)}: choose one with --embodiment {ids[0]}")
    readers = [(batch, reader) for batch, reader in readers if reader.embodiment.id in {embodiment or ids[0]}]
    if not readers:
        raise BadInput(f"the store has no episode of {embodiment!r}, only of {', '.join(ids) or 'nobody'}")
    replaced = store.replaced()
    aside = report.aside()
    records = [
        (reader, record)
        for batch, reader in readers
        for record in reader.records
        if record.extra.digest not in replaced
        and aside.isdisjoint({(batch, record.number), (batch, None)})
        and (failures or record.extra.success)
    ]
    if not records:
        raise BadInput("no episode is sound and successful: there is nothing to export")
    size = sum(p.stat().st_size for batch, _ in readers for p in store.folder(batch).rglob("*") if p.is_file())
    require_free_space(out, size, "exporting")
    described = _described_by([reader for reader, _ in records], declared or {}, since or {})
    with progress("export", len(records), unit="episode") as advance:

        def read() -> Iterator[Episode]:
            for reader, record in records:
                yield reader.episode(record)
                advance(1)

        try:
            write_dataset(out, read(), described)
        except BadInput as error:
            raise BadInput(f"{error}. `posa data list` shows the batches; export unlike ones apart, --batch") from None
    return {
        "folder": str(out),
        "embodiment": described.id,
        "episodes": len(records),
        "frames": sum(record.length for _, record in records),
        "left_out": sum(len(reader.records) for _, reader in readers) - len(records),
    }


def _described_by(
    readers: list[DatasetReader], declared: Mapping[str, Embodiment], since: Mapping[str, int]
) -> Embodiment:
    """The declaration that goes with the episodes."""
    now = declared.get(readers[0].embodiment.id)
    if now is not None and not any(meant_otherwise(reader.embodiment, now) for reader in readers):
        return now

    def age(reader: DatasetReader) -> tuple[float, str]:
        batch = reader.folder.name
        return since.get(batch, math.inf), batch

    return max(readers, key=age).embodiment
