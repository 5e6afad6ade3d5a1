"""Columns of a foreign table as the numbers that an episode is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posa_vla.episodes.foreign.bad_episode import BadEpisode

# Columns that say whether the task was done.
_SUCCESS = ("next.success", "success", "observation.success")


def vector(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    """(T, channels) of a column of numbers or of lists, nested or not, all rows alike.

    Raises:
        BadEpisode: There is no such column, a row is empty, or rows differ in length.
    """
    if name not in table.column_names:
        raise BadEpisode("table", f"column {name} is not in the table, which has {', '.join(table.column_names)}")
    column = table[name].combine_chunks()
    try:
        while pa.types.is_nested(column.type):
            if column.null_count:
                break
            column = column.flatten()
        if column.null_count:
            raise BadEpisode("table", f"column {name} has {column.null_count} empty rows")
        kind = column.type
        # Text of digits would become numbers without a word.
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"its values are {kind}, expected numbers")
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype)
        if values.size % len(table) or not values.size:
            raise ValueError(f"{values.size} numbers in {len(table)} rows")
        outer = table[name].type
        if pa.types.is_nested(outer) and not pa.types.is_fixed_size_list(outer):
            widths = pc.list_value_length(table[name]).unique().to_pylist()
            if len(widths) != 1:
                raise ValueError(f"rows have between {min(widths)} and {max(widths)} values")
    except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise BadEpisode("table", f"column {name} is no vector of numbers: {str(error)[:200]}") from None
    # A copy: Arrow's memory goes with the table.
    return np.array(values.reshape(len(table), -1))


def require_pose(name: str, pose: NDArray[np.float64]) -> None:
    """Stops at numbers that are no pose.

    Raises:
        BadEpisode: A row is not x, y, z and a quaternion of length 1.
    """
    if pose.shape[1] != 7 or not (np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1) <= 0.01).all():
        raise BadEpisode("table", f"{name} is no pose: expected x, y, z (m) and a quaternion of length 1 (w, x, y, z)")


def success(table: pa.Table) -> bool:
    """Whether any frame says so; a demonstration that does not say was done.

    Raises:
        BadEpisode: A column of that name says neither yes nor no.
    """
    for name in _SUCCESS:
        if name in table.column_names:
            column = table[name].combine_chunks()
            while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
                column = column.flatten()
            values = column.drop_null().to_pylist()
            if not all(isinstance(value, bool | int | float) for value in values):
                raise BadEpisode("table", f"column {name} is {table[name].type}, expected true and false")
            return any(values)
    return True
