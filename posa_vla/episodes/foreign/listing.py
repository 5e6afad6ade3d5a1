"""Which episodes a foreign dataset has: by its metadata, its tables, or the names of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from posa_vla.episodes.outside_files import files_below, json_lines, read_table
from posa_vla.errors import BadInput

# More episodes or files than any dataset has: a number beyond it is damage, not a place.
MOST = 10**8


def read_rows(folder: Path, version: str) -> dict[int, dict[str, Any]]:
    """What the metadata says of each episode, by number; the files themselves where it says nothing."""
    if version.startswith("v2"):
        listed = json_lines(folder, "meta/episodes.jsonl")
        for file in files_below(folder, "data", "episode_*.parquet"):
            number = re.fullmatch(r"episode_(\d{1,8})", file.stem)
            if number:
                listed.append({"episode_index": int(number[1])})
    else:
        listed = []
        for file in files_below(folder, "meta/episodes", "*.parquet"):
            table = read_table(file)
            listed += table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
        # Episodes that meta/ forgets are in the tables all the same.
        listed += _numbers_in_tables(folder, needed=not listed)
    rows: dict[int, dict[str, Any]] = {}
    for row in listed:
        number = row.get("episode_index")
        if isinstance(number, int) and 0 <= number < MOST:
            rows.setdefault(number, row)
    return rows


def _numbers_in_tables(folder: Path, needed: bool) -> list[dict[str, Any]]:
    """Episodes by the data tables; one that cannot be read is passed over, unless nothing else names episodes."""
    listed = []
    pattern = re.compile(r"data/chunk-(\d{1,8})/file-(\d{1,8})\.parquet")
    for file in files_below(folder, "data", "*.parquet"):
        place = pattern.fullmatch(file.relative_to(folder).as_posix())
        if place is None:
            continue
        try:
            numbers = read_table(file, ["episode_index"])["episode_index"].unique().to_pylist()
        except (BadInput, pa.ArrowException) as error:
            if needed:
                raise BadInput(f"{file} does not say of which episodes it is: {error}") from None
            continue
        where = {"data/chunk_index": int(place[1]), "data/file_index": int(place[2])}
        listed += [{"episode_index": number, **where} for number in numbers]
    return listed
