"""Remarks on a foreign dataset: where its metadata and files disagree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.columns import success, whole_numbers
from posa_vla.episodes.foreign.dataset import SourceEpisode


class SaidOnce:
    """What many episodes of a dataset share: it is said of the first one that can be read, and not of each."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._unsaid: list[str] = []

    def note(self, kind: str, value: str) -> None:
        """Notes what was found; only the first of a kind is said, and all that is of none."""
        if not kind:
            self._unsaid.append(value)
        elif kind not in self._kinds:
            self._kinds.add(kind)
            self._unsaid.append(f"{value} (this is said once for the dataset)")

    def take(self) -> list[str]:
        """What was noted since this was asked last."""
        unsaid, self._unsaid = self._unsaid, []
        return unsaid


def source_remarks(table: pa.Table, number: int) -> Iterator[tuple[str, int | None, str]]:
    """Rule, frame and value of what an episode's own numbering says, which the store's replaces.

    Args:
        table: Its rows.
        number: Its number in the dataset.
    """
    rows = whole_numbers(table["episode_index"]) if "episode_index" in table.column_names else None
    if rows is not None and rows[0] != number:
        yield "metadata", None, f"its rows say episode {rows[0]}, the name of its file {number}, which counts"
    numbers = whole_numbers(table["frame_index"]) if "frame_index" in table.column_names else None
    if numbers is not None:
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


def unlabelled_remarks(table: pa.Table) -> Iterator[tuple[str, int | None, str]]:
    """Rule, frame and value where an episode has a column of success that says nothing."""
    if success(table) is None:
        yield "metadata", None, "its column of success is empty: it counts as not done"
