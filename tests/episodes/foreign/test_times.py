"""Times of any column type and unit say the same as seconds from 0."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from lerobot_datasets import FPS, LENGTHS, make_v21
from taking_in import change_table, take_in, with_column

from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.episode import NotFinite
from posa_vla.episodes.foreign.times import RecordedTimes, recorded_times
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

EPOCH = 1_757_400_000.25
STEPS = np.arange(20) / FPS


def nanoseconds(since: np.ndarray) -> np.ndarray:
    return np.round((EPOCH + since) * 100).astype(np.int64) * 10_000_000


COLUMNS = {
    "seconds from 0": lambda t: pa.array(t, pa.float32()),
    "seconds since 1970": lambda t: pa.array(EPOCH + t, pa.float64()),
    "milliseconds": lambda t: pa.array(np.round(1000 * t).astype(np.int64)),
    "unsigned milliseconds": lambda t: pa.array(np.round(1000 * (EPOCH + t)).astype(np.uint64)),
    "microseconds": lambda t: pa.array(1e6 * (EPOCH + t), pa.float64()),
    "nanoseconds": lambda t: pa.array(nanoseconds(t)),
    "nanoseconds in lists": lambda t: pa.array([[int(n)] for n in nanoseconds(t)]),
    "timestamp[ns]": lambda t: pa.array(nanoseconds(t), pa.timestamp("ns", tz="UTC")),
    "timestamp[ms]": lambda t: pa.array(nanoseconds(t) // 10**6, pa.timestamp("ms")),
    "datetimes": lambda t: pa.array([datetime.fromtimestamp(EPOCH + s, UTC) for s in t.tolist()]),
    "duration[us]": lambda t: pa.array(np.round(1e6 * t).astype(np.int64), pa.duration("us")),
    "time32[ms]": lambda t: pa.array(np.round(1e3 * t + 4e6).astype(np.int32), pa.time32("ms")),
    "decimals": lambda t: pa.array(t.round(2).tolist()).cast(pa.decimal128(12, 2)),
}


def read(column: pa.Array) -> RecordedTimes:
    return recorded_times(pa.table({"timestamp": column}), FPS, exact=False)


@pytest.mark.parametrize("kind", COLUMNS)
def test_regular_times_are_regular_and_irregular_ones_are_kept(kind):
    column = COLUMNS[kind]
    assert read(column(STEPS)).since is None
    pause, back, half = STEPS + 3 * (STEPS > 1.15), STEPS - 0.5 * (STEPS > 0.95), 2 * STEPS
    for times in (pause, back, half):
        since = read(column(times)).since
        assert since is not None
        np.testing.assert_allclose(since, times, atol=1e-6)
    # The store's own precision decides, not the clock's.
    assert read(column(STEPS).slice(0, 1)).since is None


def test_a_clock_since_1970_says_the_same_of_an_episode_as_one_from_0(tmp_path):
    found = {}
    for name, start in (("from 0", 0.0), ("since 1970", EPOCH)):
        folder, store = make_v21(tmp_path / name, video=False), EpisodeStore(tmp_path / f"store {name}")
        times = [np.arange(n) / FPS for n in LENGTHS]
        times[0][12:] += 3.0
        times[1][10:] -= 0.5
        times[2] *= 2
        for number, seconds in enumerate(times):
            stamps = pa.array(start + seconds, pa.float64())
            change_table(folder, number, lambda t, stamps=stamps: with_column(t, "timestamp", stamps))
        take_in(store, folder)
        report = validate(store.root)
        found[name] = [
            (f.rule, f.episode, f.frame) for f in report.findings if f.rule in {"timestamps", "dropped-frames"}
        ]
        assert [row.episode for row in report.quarantined] == [1, 2]
    assert found["since 1970"] == found["from 0"]
    assert ("dropped-frames", 0, 12) in found["from 0"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array((EPOCH + STEPS).astype(np.float32)),
        pa.array((1e9 * (EPOCH + STEPS)).astype(np.float32)),
        pa.array((EPOCH + STEPS).astype(np.int64)),
        pa.array((EPOCH + STEPS).astype(np.int64), pa.timestamp("s")),
    ],
)
def test_a_column_too_coarse_for_single_frames_is_not_believed_and_said(column):
    times = read(column)
    assert times.since is None
    (value,) = [value for _, _, value in times.remarks if "nothing of frames" in value]
    assert "float64" in value


def test_a_pause_that_coarse_times_show_is_kept():
    since = read(pa.array((EPOCH + STEPS + 700 * (STEPS > 1)).astype(np.float32))).since
    assert since is not None
    assert since[-1] > 600


def test_when_times_begin_is_said_in_seconds():
    for column in (COLUMNS["seconds since 1970"](STEPS), COLUMNS["nanoseconds"](STEPS)):
        assert read(column).remarks == [
            ("metadata", 0, "times begin at 1757400000.25 s, expected 0; they were shifted to begin at 0")
        ]
    assert read(pa.array(STEPS - 100)).remarks[0][0] == "timestamps"
    assert read(COLUMNS["milliseconds"](STEPS)).remarks == []


def test_empty_times_are_regular_ones_and_said():
    times = read(pa.nulls(20, pa.float64()))
    assert (times.since, [rule for rule, _, _ in times.remarks]) == (None, ["metadata"])


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (pa.array([0.0, None, 0.2]), BadInput, "1 empty rows"),
        (pa.array([0.0, np.nan, 0.2]), NotFinite, "not finite at frame 1"),
        (pa.array(["0", "1", "2"]), BadInput, "is string, expected numbers or times"),
        (pa.array([[0.0, 0.1], [0.2], [0.3]]), BadInput, "4 numbers in 3 rows"),
    ],
)
def test_what_is_no_time_is_bad_input(column, error, message):
    with pytest.raises(error, match=message):
        read(column)
