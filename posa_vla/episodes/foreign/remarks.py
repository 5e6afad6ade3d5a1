"""Remarks on a foreign dataset: where its metadata and files disagree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.dataset import SourceEpisode


def source_remarks(table: pa.Table) -> Iterator[tuple[str, int | None, str]]:
    """Rule, frame and value of what an episode's own numbering says, which the store's replaces."""
    if "frame_index" in table.column_names and pa.types.is_integer(table["frame_index"].type):
        column = table["frame_index"]
        if not column.null_count:
            numbers = column.to_numpy()
            steps = np.flatnonzero(np.diff(numbers) != 1)
            if len(steps):
                frame = int(steps[0]) + 1
                yield (
                    "timestamps",
                    frame,
                    f"row {frame} was recorded as frame {numbers[frame]}, the one before as {numbers[frame - 1]}",
                )
            elif numbers[0] != 0:
                yield "metadata", 0, f"frames are numbered from {numbers[0]}, expected 0; they were numbered anew"


def length_remarks(where: SourceEpisode, episode: Episode) -> Iterator[tuple[str, int | None, str]]:
    """Rule, frame and value where the metadata says something else than the files."""
    if where.length is not None and where.length != len(episode):
        yield "metadata", None, f"the metadata counts {where.length} frames, table and images {len(episode)}"
    if where.tasks > 1:
        yield "metadata", None, f"it has {where.tasks} instructions, the first was taken: {episode.instruction!r}"
