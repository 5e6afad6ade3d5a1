"""Which episodes a foreign dataset has, and in which table each lies: the metadata are a hint, the files decide."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.episodes.foreign.columns import whole_numbers
from posa_vla.episodes.outside_files import files_below, json_lines, pointer, read_table, whole
from posa_vla.errors import BadInput

# More episodes or files than any dataset has: a number beyond it is damage, not a place.
MOST = 10**8
_EPISODES = "meta/episodes"
_LINES = "meta/episodes.jsonl"


@dataclass
class Listing:
    """The episodes of a dataset.

    Attributes:
        rows: Number -> what the metadata say of it; nothing where only the files know it.
        tables: Number -> the tables, relative to the dataset, that hold rows of it.
        lies_like: `v2` (a file an episode) or `v3` (many episodes a file): how the files lie, whatever info.json says.
        remarks: (rule, value) of what the metadata get wrong.
    """

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    tables: dict[int, list[str]] = field(default_factory=dict)
    lies_like: str = ""
    remarks: list[tuple[str, str]] = field(default_factory=list)


def own_number(table: str) -> int | None:
    """Number of the one episode whose table this is, by the file's name; None where the name does not say."""
    found = re.fullmatch(r"episode_(\d{1,8})\.parquet", Path(table).name)
    return int(found[1]) if found else None


def read_listing(folder: Path, version: str) -> Listing:
    """The episodes by the metadata and by the tables.

    Args:
        folder: The dataset.
        version: `v2...` or `v3...`; empty where info.json does not say, and the files do.

    Raises:
        BadInput: The metadata cannot be read, or tables are only pointers to what was not fetched.
    """
    tables = _tables(folder)
    own = [path for path in tables if own_number(path.name) is not None]
    listed, list_like = _listed(folder, version or ("v2" if own else "v3"))
    # Where there are files of both kinds, one is left over from a conversion.
    only = "v2" if len(own) == len(tables) else "v3" if not own else version[:2] or list_like
    listing = Listing(lies_like=only if tables else list_like)
    _note_rows(listing, listed)
    require_fetched(folder, tables)
    by_name = bool(own) and not version.startswith("v3")
    for path in own if by_name else tables:
        relative = path.relative_to(folder).as_posix()
        number = own_number(path.name)
        for found in [number] if by_name and number is not None else _numbers_in(path, needed=not listed):
            listing.tables.setdefault(found, []).append(relative)
    for number in listing.tables:
        listing.rows.setdefault(number, {})
    return listing


def require_fetched(folder: Path, files: list[Path]) -> None:
    """Stops before anything comes in where files are only pointers to what was not fetched.

    Raises:
        BadInput: Some are; the message says how many, and how they are fetched.
    """
    missing = [(path, what) for path in files if (what := pointer(path))]
    if missing:
        path, what = missing[0]
        raise BadInput(
            f"{folder}: {len(missing)} of {len(files)} files are not here. {path.relative_to(folder)} is {what}, then "
            "take the dataset in again. To take in only what is here, remove the pointers"
        )


def _tables(folder: Path) -> list[Path]:
    """Data tables: those below `data/`, or, where there are none, all that are no metadata."""
    return files_below(folder, "data", "*.parquet") or [
        path for path in files_below(folder, ".", "*.parquet") if path.relative_to(folder).parts[0] != "meta"
    ]


def _listed(folder: Path, version: str) -> tuple[list[dict[str, Any]], str]:
    """What the metadata list, and the version whose list it is: where there is no own one, another's is taken."""
    lines, parts = json_lines(folder, _LINES), files_below(folder, _EPISODES, "*.parquet")
    if lines and (version.startswith("v2") or not parts):
        return lines, "v2"
    rows = []
    for file in parts:
        table = read_table(file)
        rows += table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
    return rows, "v3"


def _note_rows(listing: Listing, listed: list[dict[str, Any]]) -> None:
    """Notes what is listed; of an episode that is listed twice the last counts, as for LeRobot."""
    twice = []
    for row in listed:
        number = whole(row.get("episode_index"))
        if number is None or not 0 <= number < MOST:
            continue
        if number in listing.rows:
            twice.append(number)
        listing.rows[number] = row
    if twice:
        some = ", ".join(str(number) for number in sorted(set(twice))[:5])
        which = f"episode {some} is" if len(set(twice)) == 1 else f"episodes {some} are"
        listing.remarks.append(("twice", f"{which} listed more than once: what is listed last was taken"))


def _numbers_in(path: Path, *, needed: bool) -> list[int]:
    """Episodes of which a table has rows; one that cannot be read is passed over, unless nothing else names episodes.

    Raises:
        BadInput: It cannot be read, and is needed.
    """
    try:
        numbers = whole_numbers(read_table(path, ["episode_index"])["episode_index"])
        if numbers is None:
            raise BadInput(f"{path}: column episode_index holds no whole numbers")
    except BadInput as error:
        number = own_number(path.name)
        if number is not None:
            return [number]
        if needed:
            raise BadInput(f"it is not known of which episodes a table is: {error}") from None
        return []
    return [int(number) for number in np.unique(numbers) if 0 <= number < MOST]
