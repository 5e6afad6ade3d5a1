"""Which rows of a table are an episode's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.columns import whole_numbers
from posa_vla.episodes.foreign.listing import own_number
from posa_vla.episodes.outside_files import DAMAGED, damage, file_inside, read_table
from posa_vla.errors import BadInput


@dataclass(frozen=True)
class Place:
    """Rows of one episode in a table: `rows` of the row groups `groups`."""

    rows: range
    groups: list[int]


def read_places(folder: Path, table: str) -> dict[int, Place | None]:
    """Episode -> its rows, by the column that numbers them; a table without such numbers is one episode's, number -1.

    None stands for an episode whose rows are not in one piece.

    Args:
        folder: The dataset.
        table: Parquet file, relative to it.

    Raises:
        BadEpisode: The table is missing or damaged.
    """
    try:
        path = file_inside(folder, table)
    except BadInput as error:
        raise BadEpisode("table", str(error)) from None
    try:
        with pq.ParquetFile(path) as file:
            lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            names = file.schema_arrow.names
    except FileNotFoundError:
        raise BadEpisode("table", f"{path} does not exist") from None
    except DAMAGED:
        raise BadEpisode("table", f"{path} {damage(path)}") from None
    total = sum(lengths)
    numbers = whole_numbers(read_table(path, ["episode_index"])["episode_index"]) if "episode_index" in names else None
    if numbers is None and "episode_index" in names and own_number(table) is None:
        raise BadEpisode("table", f"{table}: column episode_index holds no whole numbers")
    if numbers is None:
        return {-1: Place(range(total), list(range(len(lengths))))}
    starts = np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [total]])
    places: dict[int, Place | None] = {}
    split = set()
    for first, stop in itertools.pairwise(cuts):
        if first == stop:
            continue
        number = int(numbers[first])
        if number in places:
            split.add(number)
        begin = int(np.searchsorted(starts, first, side="right")) - 1
        end = int(np.searchsorted(starts, stop, side="left"))
        offset = int(starts[begin])
        places[number] = Place(range(int(first) - offset, int(stop) - offset), list(range(begin, end)))
    return places | dict.fromkeys(split)
