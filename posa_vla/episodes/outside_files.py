"""Files of a dataset from outside: whatever they hold or are, reading them ends, and with `BadInput` at worst."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.errors import BadInput
from posa_vla.files import read_json, safe_join

# What reading foreign metadata can raise.
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
# What pyarrow raises on a damaged file: names that are not UTF-8 are plain ValueErrors.
DAMAGED = (pa.ArrowException, OSError, ValueError, MemoryError)


def file_inside(folder: Path, relative: str) -> Path:
    """Path of a file of the dataset that may be opened; the file need not exist.

    Raises:
        BadInput: The path leaves the folder, or leads to something that is no file: reading a pipe would never end.
    """
    path = safe_join(folder, relative)
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no regular file")
    return path


def inside_json(folder: Path, relative: str) -> Any:
    """A JSON file of the dataset.

    Raises:
        BadInput: The file is missing, is no JSON, or is nested too deeply.
    """
    path = file_inside(folder, relative)
    try:
        return read_json(path)
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply") from None


def text_of(value: str) -> str:
    """Text that can be written down: half a UTF-16 pair, which JSON can hold, is none."""
    return value.encode("utf-8", "replace").decode()


def files_below(folder: Path, relative: str, pattern: str) -> list[Path]:
    """Sorted files of a pattern below a folder of the dataset, none of them reached through a link out of it."""
    found = sorted((folder / relative).rglob(pattern))
    return [safe_join(folder, file.relative_to(folder).as_posix()) for file in found if file.is_file()]


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file from outside.

    Raises:
        BadInput: The file is missing or damaged, or lacks a column.
    """
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except DAMAGED as error:
        raise BadInput(f"{path} is damaged ({str(error)[:200]})") from None


def json_lines(folder: Path, relative: str) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file; none where there is no file.

    Raises:
        BadInput: A line is not a JSON object.
    """
    path = file_inside(folder, relative)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number}: expected an object, got {type(row).__name__}")
        rows.append(row)
    return rows
