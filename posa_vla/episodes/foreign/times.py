"""When an episode's frames were recorded: seconds, milliseconds or nanoseconds, since the first frame or since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posa_vla.episodes.episode import NotFinite
from posa_vla.episodes.foreign.columns import flat
from posa_vla.errors import BadInput

_COLUMN = "timestamp"
# Recorded times that are this close to regular ones are regular (s); LeRobot's own tolerance.
_REGULAR = 1e-4
# Seconds in a unit -> up to where a number of it is a time of day since 1970, and not one of the next smaller unit.
_UNITS = {1.0: 1e11, 1e-3: 1e14, 1e-6: 1e17, 1e-9: float("inf")}
_ARROW_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Frames come at the declared rate, this many times faster or slower: then the unit is known. Units are 1000 apart.
_RATE = 8


@dataclass(frozen=True)
class RecordedTimes:
    """The times of one episode.

    Attributes:
        since: float64 (T,) seconds since the first frame in single precision, or None where they are regular or not
            there.
        remarks: (rule, frame, value) of what the store's times do not say any more.
    """

    since: NDArray[np.float64] | None = None
    remarks: list[tuple[str, int | None, str]] = field(default_factory=list)


def recorded_times(table: pa.Table, fps: float, *, exact: bool) -> RecordedTimes:
    """Reads the times of an episode, whatever the type of their column.

    Args:
        table: The episode's rows.
        fps: Frames per second that the dataset declares.
        exact: Whether the times were written here: they are seconds, and are kept to the last bit.

    Raises:
        NotFinite: A time is no number.
        BadInput: The column holds no times.
    """
    if _COLUMN not in table.column_names:
        return RecordedTimes()
    values, unit = _values(table)
    if values is None:
        return RecordedTimes(remarks=[("metadata", None, f"{_COLUMN} is empty: times were taken as regular")])
    regular = np.arange(len(values)) / fps
    # Of whole numbers the difference first: as floating point, nanoseconds since 1970 are multiples of 256.
    since = (values - (values[0] if not exact else 0)).astype(np.float64)
    if exact:
        same = np.array_equal(since.astype(np.float32), regular.astype(np.float32))
        return RecordedTimes(None if same else _single(since), _began(float(values[0]), fps))
    largest = float(np.abs(values.astype(np.float64)).max())
    unit = unit or _unit(since, largest, fps)
    since = since * unit
    floating = np.issubdtype(values.dtype, np.floating)
    step = unit * (float(np.spacing(values.dtype.type(largest))) if floating else 1)
    remarks = _began(float(values[0]) * unit, fps)
    # Neither the column nor the store, which has single precision, can say times more closely than this.
    tolerance = max(_REGULAR, step, float(np.spacing(np.float32(np.abs(since).max()))))
    if not np.allclose(since, regular, rtol=0, atol=tolerance):
        return RecordedTimes(_single(since), remarks)
    if step >= 0.5 / fps:
        text = (
            f"{_COLUMN} is {table[_COLUMN].type} near {largest * unit:.6g} s, where it has steps of {step:g} s, and "
            "says nothing of frames: times were taken as regular; record seconds since the episode began, or float64"
        )
        remarks.append(("metadata", None, text))
    return RecordedTimes(None, remarks)


def _single(since: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded: NDArray[np.float64] = since.astype(np.float32).astype(np.float64)
    return rounded


def _values(table: pa.Table) -> tuple[NDArray[np.generic] | None, float | None]:
    """One number a frame, and the unit (s) that its type names; no numbers where all rows are empty."""
    column = flat(table[_COLUMN])
    kind, unit = column.type, None
    if column.null_count == len(column):
        return None, None
    if column.null_count:
        raise BadInput(f"column {_COLUMN} has {column.null_count} empty rows")
    if pa.types.is_temporal(kind) and hasattr(kind, "unit"):
        unit = _ARROW_UNITS[kind.unit]
        column = column.view(pa.int32() if pa.types.is_time32(kind) else pa.int64())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BadInput(f"column {_COLUMN} is {table[_COLUMN].type}, expected numbers or times")
    if len(column) != len(table):
        raise BadInput(f"column {_COLUMN} has {len(column)} numbers in {len(table)} rows, expected one each")
    values = column.to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all():
        raise NotFinite(f"{_COLUMN} is not finite at frame {int(np.argmin(np.isfinite(values)))}")
    # Differences of unsigned numbers wrap around.
    return (values if np.issubdtype(values.dtype, np.floating) else values.astype(np.int64)), unit


def _unit(since: NDArray[np.float64], largest: float, fps: float) -> float:
    """Seconds in a unit: the one in which frames come at about the declared rate, else as large as times of day are."""
    step = float(np.median(np.abs(np.diff(since)))) if len(since) > 1 else 0.0
    fitting = [unit for unit in _UNITS if 1 / _RATE < step * unit * fps < _RATE]
    return fitting[0] if fitting else next(unit for unit, limit in _UNITS.items() if largest < limit)


def _began(first: float, fps: float) -> list[tuple[str, int | None, str]]:
    if abs(first) <= 0.5 / fps:
        return []
    rule, what = ("timestamps", "before the recording began") if first < 0 else ("metadata", "expected 0")
    return [(rule, 0, f"times begin at {first:.12g} s, {what}; they were shifted to begin at 0")]
