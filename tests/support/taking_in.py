"""Foreign datasets into an episode store, and changes of their tables, for tests of what comes of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot_datasets import reader_of, write_table

from posa_vla.dataset.exchange.ingest import Ingested, ingest
from posa_vla.episodes.store.episode_store import EpisodeStore


def take_in(store: EpisodeStore, folder: Path, *mapping: str, **options) -> Ingested:
    return ingest(store, reader_of(folder, *mapping, **options))


def change_table(folder: Path, number: int, change) -> None:
    path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
    write_table(path, change(pq.read_table(path)))


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
