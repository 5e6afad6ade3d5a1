"""Where an MLflow database in a file says that its artifacts lie: absolute paths, which a move makes wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from posa_vla.errors import BadInput

_SQLITE = "sqlite:///"
# Below the database's own folder.
ARTIFACTS = "artifacts"
# MLflow's columns that name a place: table, column, and the column that names the row.
_PLACES = (
    ("runs", "artifact_uri", "run_uuid"),
    ("logged_models", "artifact_location", "model_id"),
    ("model_versions", "storage_location", "version"),
    ("model_versions", "source", "version"),
)
# Seconds to wait for another process that is writing to the database.
_WAIT = 60


def database_file(uri: str) -> Path | None:
    """The file of an MLflow database, or None for a server."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute() if uri.startswith(_SQLITE) else None


def waiting(uri: str) -> str:
    """The address at which MLflow waits for another process that writes to the database, or copies it."""
    return f"{uri}?timeout={_WAIT}" if uri.startswith(_SQLITE) and "?" not in uri else uri


def lists_version(database: Path, model: str, version: str) -> bool:
    """Whether a database has a version of a model; asked without MLflow, whose import takes a second.

    Raises:
        BadInput: The file is no MLflow database, or damaged.
    """
    if not database.is_file():
        return False
    asked = "SELECT 1 FROM model_versions WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_WAIT)) as connection:
            there = "model_versions" in _tables(connection)
            return there and connection.execute(asked, (model, version)).fetchone() is not None
    except sqlite3.DatabaseError as error:
        raise _unfit(database, error) from None


def artifact_place(database: Path, experiment: str) -> str:
    """Where a new experiment of a database keeps its artifacts."""
    return (database.parent / ARTIFACTS / experiment).as_uri()


def follow_move(database: Path) -> list[str]:
    """Makes a database name its artifacts where they lie now, if it was moved, renamed, copied or restored elsewhere.

    All of it is one transaction, which also keeps two processes from doing it at once. A row whose artifacts lie at the
    place that it names and not beside the database stays as it is.

    Returns:
        The folders that the database lay in before; empty where nothing was to be done.

    Raises:
        BadInput: The file cannot be written to, is damaged, or is no MLflow database.
    """
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(database, timeout=_WAIT, isolation_level=None)) as connection:
            if not _earlier_folders(connection, database):
                return []
            connection.execute("BEGIN IMMEDIATE")
            earlier = _earlier_folders(connection, database)
            moved = [str(folder) for folder in earlier if _rewrite(connection, folder, database.parent)]
            connection.execute("COMMIT")
            return moved
    except sqlite3.DatabaseError as error:
        raise _unfit(database, error) from None


def places_elsewhere(database: Path) -> list[str]:
    """What a database names outside its own folder, in words; for people who look for what is missing.

    Raises:
        BadInput: The file is no MLflow database, or damaged.
    """
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_WAIT)) as connection:
            found = []
            for table, column, name in _PLACES:
                for row, place in _rows(connection, table, column, name):
                    path = _path(place)
                    if path is not None and not path.is_relative_to(database.parent):
                        there = "" if path.exists() else ", which is not there"
                        found.append(f"{table.replace('_', ' ')[:-1]} {row} names {path}{there}")
            return found
    except sqlite3.DatabaseError as error:
        raise _unfit(database, error) from None


def _unfit(database: Path, error: sqlite3.DatabaseError) -> BadInput:
    return BadInput(
        f"MLflow's database {database}: {error}; see its permissions and who holds it, or restore it from a backup"
    )


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _rows(connection: sqlite3.Connection, table: str, column: str, name: str) -> list[tuple[str, str]]:
    if table not in _tables(connection):  # MLflow has not made its tables yet
        return []
    found = connection.execute(f'SELECT "{name}", "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
    return [(str(row), str(place)) for row, place in found]


def _path(place: str) -> Path | None:
    """The folder that a place names, or None where it is not on this machine's disk."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(place) if place.startswith("/") else None


def _earlier_folders(connection: sqlite3.Connection, database: Path) -> list[Path]:
    """Folders that the database lay in before: artifacts lie beside it, in `artifacts/` and an experiment's name."""
    rows = _rows(connection, "experiments", "artifact_location", "name")
    experiments = {name for name, _ in rows}
    for table, column, name in _PLACES:
        rows += _rows(connection, table, column, name)
    found: dict[Path, None] = {}
    for _, place in rows:
        path = _path(place)
        parts = () if path is None else path.parts
        at = [i for i in range(len(parts) - 1) if parts[i] == ARTIFACTS and parts[i + 1] in experiments]
        if at and Path(*parts[: at[-1]]) != database.parent:
            found[Path(*parts[: at[-1]])] = None
    return list(found)


def _rewrite(connection: sqlite3.Connection, before: Path, now: Path) -> int:
    """Rewrites what names the earlier folder; returns how many rows."""
    changes = connection.total_changes
    for name, moved in _moved(_rows(connection, "experiments", "artifact_location", "name"), before, now):
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (moved, name))
    for table, column, _ in _PLACES:
        # By SQLite's own number of the row: a version's number is one of several models'.
        for row, moved in _moved(_rows(connection, table, column, "rowid"), before, now):
            old, new = before / _path_of(moved).relative_to(now), _path_of(moved)
            if new.exists() or not old.exists():
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (moved, row))
    # Where a run's data came from: the workspace that the database's folder lies in.
    old_home, new_home = (f'"{json.dumps(f"{folder.parent}/")[1:-1]}' for folder in (before, now))
    connection.execute(
        "UPDATE datasets SET dataset_source = replace(dataset_source, ?, ?) WHERE instr(dataset_source, ?)",
        (old_home, new_home, old_home),
    )
    return connection.total_changes - changes


def _path_of(place: str) -> Path:
    path = _path(place)
    assert path is not None  # `_moved` gives nothing else
    return path


def _moved(rows: list[tuple[str, str]], before: Path, now: Path) -> Iterator[tuple[str, str]]:
    """Rows whose place lies below the earlier folder, with the place as it is now, spelt the same way."""
    for row, place in rows:
        path = _path(place)
        if path is not None and path.is_relative_to(before):
            new = now / path.relative_to(before)
            yield row, new.as_uri() if place.startswith("file:") else str(new)
