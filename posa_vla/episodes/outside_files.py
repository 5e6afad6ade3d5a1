"""Files of a dataset from outside: whatever they hold or are, reading them ends, and with `BadInput` at worst.

What is wrong with a file is said in our words: a library's name addresses, and change from one version to the next.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.errors import BadInput
from posa_vla.files import read_bytes, safe_join
from posa_vla.json_reader import decode_json

# What reading foreign metadata can raise.
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
# What pyarrow raises on a damaged file: names that are not UTF-8 are plain ValueErrors.
DAMAGED = (pa.ArrowException, OSError, ValueError, MemoryError)
# How files begin that only stand for others, and what fetches those.
_POINTERS = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"version https://hawser.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer", "git annex get ."),
)
# No pointer is larger (bytes), and hardly a file of a dataset smaller.
_POINTER_SIZE = 1024


def file_inside(folder: Path, relative: str) -> Path:
    """Path of a file of the dataset that may be opened; the file need not exist.

    Raises:
        BadInput: The path leaves the folder, or leads to something that is no file: reading a pipe would never end.
    """
    path = safe_join(folder, relative)
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no regular file")
    return path


def pointer(path: Path) -> str:
    """What a file is that only stands for another, and what to do; empty where it is the file itself."""
    try:
        status = path.stat()
        if status.st_size > _POINTER_SIZE or not stat.S_ISREG(status.st_mode):
            return ""
        start = path.read_bytes()
    except OSError:
        return ""
    for mark, what, fetch in _POINTERS:
        if start.startswith(mark):
            return f"{what}, not the file itself: run `{fetch}` where the dataset was cloned"
    return ""


def damage(path: Path) -> str:
    """What is wrong with a file that its reader does not take, as the rest of a sentence about it."""
    if what := pointer(path):
        return f"is {what}"
    try:
        with path.open("rb") as file:
            start = file.read(4)
            size = file.seek(0, 2)
            file.seek(max(size - 4, 0))
            end = file.read(4)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not size:
        return "is damaged: it is empty; copy it again"
    if path.suffix == ".parquet":
        if start != b"PAR1":
            return f"is damaged: it begins with the bytes {start.hex(' ')}, which no Parquet file does"
        if end != b"PAR1" or size < 12:
            return "is damaged: its end is missing; it was not finished, or not copied whole"
    return "is damaged: its bytes do not fit together; copy it again"


def _text(path: Path) -> str:
    """Text of a file of metadata: UTF-8 or UTF-16, with the mark before it that editors of Windows set, or without.

    Raises:
        BadInput: It cannot be read, is a pointer to another file, or no such text.
    """
    if what := pointer(path):
        raise BadInput(f"{path} is {what}")
    data = read_bytes(path)
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        place = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise BadInput(f"{path} is no UTF-8 text ({place}): save it as UTF-8") from None


def inside_json(folder: Path, relative: str) -> Any:
    """A JSON file of the dataset.

    Raises:
        BadInput: The file is missing, is no JSON, or is nested too deeply.
    """
    path = file_inside(folder, relative)
    return decode_json(_text(path), str(path), as_python_writes=True)


def text_of(value: str) -> str:
    """Text that can be written down: half a UTF-16 pair, which JSON can hold, is none."""
    return value.encode("utf-8", "replace").decode()


def whole(value: Any) -> int | None:
    """A whole number, however metadata hold it (3, 3.0, [3]), or None where it is none."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path below a folder is none of the dataset: macOS's `._file`, a cache's or git's own files."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def files_below(folder: Path, relative: str, pattern: str) -> list[Path]:
    """Sorted files of a pattern below a folder of the dataset, none of them hidden or reached through a link out of it.

    Raises:
        BadInput: A link leads out of the dataset.
    """
    found = sorted(path for path in (folder / relative).rglob(pattern) if not is_hidden(path, folder))
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
    except DAMAGED:
        missing = set(columns or ()) - set(_column_names(path) or columns or ())
        what = f"has no column {', '.join(sorted(missing))}" if missing else damage(path)
        raise BadInput(f"{path} {what}") from None


def _column_names(path: Path) -> list[str]:
    """Names of a Parquet file's columns; none where it cannot be read."""
    try:
        names: list[str] = pq.read_schema(path).names
        return names
    except DAMAGED:
        return []


def json_lines(folder: Path, relative: str) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file; none where there is no file.

    Raises:
        BadInput: A line is not a JSON object.
    """
    path = file_inside(folder, relative)
    if not path.exists():
        return []
    rows = []
    # Lines end with a line feed alone: words may hold any other character that separates lines somewhere.
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        row = decode_json(line, f"{path}, line {number}", as_python_writes=True)
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number}: expected an object, got {type(row).__name__}")
        rows.append(row)
    return rows
