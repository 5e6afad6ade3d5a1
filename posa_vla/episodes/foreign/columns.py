"""Columns of a foreign table as the numbers that an episode is made of, whatever type a writer gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.lerobot.layout import NUMBERS, WIDER

# Columns that say whether the task was done.
_SUCCESS = ("next.success", "success", "observation.success")
# Above it single steps are no more in float64.
_EXACT = 2**53


class _Unfit(ValueError):
    """A column that cannot be read as asked; the message is the rest of a sentence about it."""


# What reading a column that holds something else can raise.
_NO_NUMBERS = (_Unfit, pa.ArrowException, ValueError, TypeError, OverflowError)


def _is_list(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return True
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column's own values: neither in pieces nor encoded by a dictionary, nor of an extension's type."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        else:
            return column


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values of a column, those of lists without their lists: where each row has one, as many as rows."""
    column = _plain(column)
    while _is_list(column.type):
        column = _plain(column.flatten())
    return column


def _is_number(kind: pa.DataType) -> bool:
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return True
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _values(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """(T, channels) of a column of numbers or of lists, nested or not, all rows alike; of the column's own type.

    Raises:
        _Unfit: A row is empty, rows differ in length, or it holds no numbers.
    """
    rows, column = len(column), _plain(column)
    while _is_list(column.type):
        if column.null_count:
            break
        if not pa.types.is_fixed_size_list(column.type):
            widths = pc.list_value_length(column).unique().to_pylist()
            if len(widths) > 1:
                raise _Unfit(f"is no vector of numbers: rows have between {min(widths)} and {max(widths)} values")
        column = _plain(column.flatten())
    if column.null_count:
        raise _Unfit(f"has {column.null_count} empty rows")
    # Text of digits would become numbers without a word.
    if not _is_number(column.type):
        raise _Unfit(f"is no vector of numbers: its values are {column.type}, expected numbers")
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    if not rows or not values.size or values.size % rows:
        raise _Unfit(f"is no vector of numbers: {values.size} numbers in {rows} rows")
    return values.reshape(rows, -1)


def vector(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    """(T, channels) of a column of numbers or of lists, nested or not, all rows alike.

    Raises:
        BadEpisode: There is no such column, a row is empty, rows differ in length, or it holds no numbers.
    """
    if name not in table.column_names:
        raise BadEpisode("table", f"column {name} is not in the table, which has {', '.join(table.column_names)}")
    try:
        # What is too large for the type becomes infinite, which is no number of an episode.
        with np.errstate(over="ignore"):
            # A copy: Arrow's memory goes with the table.
            return np.array(_values(table[name]), dtype)
    except _Unfit as error:
        raise BadEpisode("table", f"column {name} {error}") from None
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise BadEpisode("table", f"column {name} is no vector of numbers: it is {table[name].type}") from None


def whole_numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64] | None:
    """(T,) of a column with one whole number a row, in whatever type; None where it is none."""
    if not len(column):
        return np.empty(0, np.int64)
    try:
        return _whole(_values(column))
    except _NO_NUMBERS:
        return None


def numbers_of_frames(table: pa.Table, name: str) -> NDArray[np.int64] | None:
    """(T,) of a column that gives frames a whole number, -1 where a row is empty; None where it is none such."""
    try:
        values = _values_or_nan(table[name]) if name in table.column_names else None
    except _NO_NUMBERS:
        return None
    if values is None:
        return None
    return _whole(np.where(np.isfinite(values), values, -1) if values.dtype.kind == "f" else values)


def _whole(values: NDArray[Any]) -> NDArray[np.int64] | None:
    if values.shape[1] != 1 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        # NaN is not below anything.
        if not ((np.abs(values) < _EXACT).all() and (values % 1 == 0).all()):
            return None
    whole: NDArray[np.int64] = values[:, 0].astype(np.int64)
    return whole


def _values_or_nan(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """As `_values`, with NaN in empty rows."""
    column = _plain(column)
    empty = column.null_count or (_is_list(column.type) and _plain(column.flatten()).null_count)
    return _values(_filled(column) if empty else column)


def _filled(column: pa.Array) -> pa.Array:
    """A column whose empty rows hold NaN; whole numbers become float64 so.

    Raises:
        _Unfit: It is not known how wide the empty rows are.
    """
    kind = column.type.value_type if _is_list(column.type) else column.type
    if _is_number(kind) and not pa.types.is_floating(kind):
        kind = pa.float64()
    if not pa.types.is_floating(kind):
        raise _Unfit(f"has empty rows, and its values are {kind}")
    if not _is_list(column.type):
        return pc.fill_null(column.cast(kind), pa.scalar(float("nan"), kind))
    rows = column.to_pylist()
    widths = {len(row) for row in rows if row is not None}
    if len(widths) != 1:
        raise _Unfit("has empty rows, and the others are not of one width")
    empty = [None] * widths.pop()
    return pa.array(
        [[float("nan") if value is None else value for value in (empty if row is None else row)] for row in rows],
        pa.list_(kind),
    )


def kept(table: pa.Table, name: str, dtype: str) -> NDArray[Any]:
    """(T, channels) of a column that is only kept: float32, float64 or int64, whichever holds its every value.

    Empty rows are NaN. The column's own type decides: the declared one is a hint, and makes floats wider at most.

    Args:
        table: An episode's rows.
        name: Column.
        dtype: Its type as info.json declares it.

    Raises:
        BadEpisode: It cannot be kept.
    """
    try:
        values = _values_or_nan(table[name])
    except _Unfit as error:
        raise BadEpisode("table", f"column {name} {error}") from None
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise BadEpisode("table", f"column {name} cannot be kept: it is {table[name].type}") from None
    declared = np.dtype(WIDER.get(dtype, dtype)) if dtype in NUMBERS.keys() | WIDER.keys() else np.dtype(np.int64)
    if values.dtype.kind == "f":
        wider = [declared] if declared.kind == "f" else []
        return np.array(values, np.result_type(np.float32, values.dtype, *wider))
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise BadEpisode("table", f"column {name} has numbers above {np.iinfo(np.int64).max}")
    exact = not values.size or (values.dtype.kind == "b" or max(-int(values.min()), int(values.max())) <= _EXACT)
    return np.array(values, np.float64 if declared.kind == "f" and exact else np.int64)


def require_pose(name: str, pose: NDArray[np.float64]) -> None:
    """Stops at numbers that are no pose.

    Raises:
        BadEpisode: A row is not x, y, z and a quaternion of length 1.
    """
    if pose.shape[-1] != 7 or not (np.abs(np.linalg.norm(pose[..., 3:], axis=-1) - 1) <= 0.01).all():
        raise BadEpisode("table", f"{name} is no pose: expected x, y, z (m) and a quaternion of length 1 (w, x, y, z)")


def success(table: pa.Table) -> bool | None:
    """Whether any frame says so; without such a column a demonstration was done. None where it has one that is empty.

    Raises:
        BadEpisode: A column of that name says neither yes nor no.
    """
    name = next((name for name in _SUCCESS if name in table.column_names), None)
    if name is None:
        return True
    values = [value for value in flat(table[name]).to_pylist() if value is not None]
    if not all(isinstance(value, bool | int | float) for value in values):
        raise BadEpisode("table", f"column {name} is {table[name].type}, expected true and false")
    # NaN is how other writers leave a row empty.
    said = [bool(value) for value in values if value == value]
    return any(said) if said else None
