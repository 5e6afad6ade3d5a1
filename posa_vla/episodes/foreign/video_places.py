"""Which pictures of a video file are each episode's: by their times, else by their order, never a neighbour's.

LeRobot v3.0 puts many episodes into one file, and its metadata give each a start in seconds. A start that is no
picture's time says nothing by itself: it may have drifted by a whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.media.video_file import VideoIndex

# A start this close to a picture's time is that time (s); LeRobot's own tolerance. Files with a coarser clock get a
# step of it, up to a share of a frame.
_EXACT, _EXACT_SHARE = 1e-4, 0.1
# Offsets from the nearest picture, in frames: beyond the first one it is said, beyond the second one nothing can be.
_NOTED, _UNTOLD = 0.05, 0.4
# By how many frames an episode's time in the file may differ from its rows where only the order places it: less than
# one, for where one episode has a picture too few and the next one too many, the order is wrong.
_DURATION = 0.75

_Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """What is known of one episode in a file.

    Attributes:
        episode: Its number.
        start: When it begins (s), by the metadata.
        end: When it is over (s), by the metadata; None where they do not say.
        frames: How many rows its table has.
    """

    episode: int
    start: float
    end: float | None
    frames: int


@dataclass(frozen=True)
class Placed:
    """Where an episode's pictures begin.

    Attributes:
        first: Number of the first one in the file.
        frames: How many there are.
        notes: Kind of a remark, which is said once for the dataset -> what was found; no kind: of this episode alone.
    """

    first: int
    frames: int
    notes: dict[str, str]


def place(claims: Sequence[Claim], video: VideoIndex, fps: float, path: str) -> dict[int, Placed | str]:
    """Places all episodes of a file.

    Args:
        claims: One an episode.
        video: The file's pictures.
        fps: Frames per second of the dataset; the file's own rate may be another.
        path: How messages call the file.

    Returns:
        Episode -> its place, or, where it cannot be told, why.
    """
    if not len(video.times):
        return {claim.episode: f"{path} has no frames" for claim in claims}
    return _File(claims, video, fps, path).places()


class _Way(NamedTuple):
    """One reading of a file's metadata: the episodes' first pictures, where they say that they end, what to note."""

    firsts: NDArray[np.int64]
    ends: NDArray[np.float64]
    note: str


class _File:
    def __init__(self, claims: Sequence[Claim], video: VideoIndex, fps: float, path: str) -> None:
        self._claims = sorted(claims, key=lambda claim: (claim.start, claim.episode))
        self._times, self._fps, self._path = video.times, fps, path
        self._starts = np.array([claim.start for claim in self._claims])
        self._stops = np.array([math.nan if claim.end is None else claim.end for claim in self._claims])
        self._frames = np.array([claim.frames for claim in self._claims])
        self._count = len(video.times)
        # Their first pictures if each begins where the one before it ends.
        self._in_order = np.concatenate([[0], np.cumsum(self._frames[:-1])])
        steps = np.diff(video.times)
        self._period = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1 / fps
        coarse = max(_EXACT, video.tick, float(np.spacing(np.float32(self._starts.max()))))
        self._exact = min(coarse / self._period, _EXACT_SHARE)
        self._late = video.times[0] > _UNTOLD * self._period

    def places(self) -> dict[int, Placed | str]:
        (first, *others) = self._claims
        if not others and first.start == 0 and first.end is None:
            if first.frames != self._count:
                return {first.episode: f"{self._path} has {self._count} frames, the episode's table {first.frames}"}
            return {first.episode: Placed(0, self._count, {})}
        by_time = self._read_as(self._numbers(self._starts), self._numbers(self._stops), "")
        if by_time is not None and by_time.firsts[0] == 0:
            return self._judged(by_time)
        by_order = self._by_order()
        if by_order is not None:
            return self._judged(by_order)
        ways = [by_time, *self._other_ways()]
        found = [way for way in ways if way is not None]
        if not found:
            return self._one_by_one()
        places = self._judged(found[0])
        for number, claim in enumerate(self._claims):
            if len({int(way.firsts[number]) for way in found}) > 1:
                places[claim.episode] = (
                    f"{self._path}: the start at {claim.start:.4f} s can be a time or a number of pictures, which are "
                    "not the same here: the frames cannot be told from a neighbour's; correct from_timestamp"
                )
        return places

    def _other_ways(self) -> Iterator[_Way | None]:
        """As seconds since the first picture, and as numbers of pictures divided by the dataset's rate."""
        zero = self._times[0]
        late = f"its first picture is shown at {zero:.3f} s, from which starts in the metadata count"
        yield self._read_as(self._numbers(self._starts + zero), self._numbers(self._stops + zero), late)
        nominal = (
            f"its pictures come at {1 / self._period:.6g}/s, and starts in the metadata are numbers of pictures "
            f"divided by {self._fps:g}"
        )
        for since in (0.0, zero) if self._late else (0.0,):
            yield self._read_as((self._starts - since) * self._fps, (self._stops - since) * self._fps, nominal)

    def _numbers(self, seconds: _Seconds) -> NDArray[np.float64]:
        """Times as numbers of pictures, with a fraction; beyond the file's ends at its rate."""
        inside = np.interp(seconds, self._times, np.arange(self._count))
        outside = np.minimum(seconds - self._times[0], 0) + np.maximum(seconds - self._times[-1], 0)
        numbers: NDArray[np.float64] = inside + outside / self._period
        return numbers

    def _read_as(self, numbers: NDArray[np.float64], ends: NDArray[np.float64], note: str) -> _Way | None:
        """A way to read the starts, if each of them is a picture's by it, and no episode lies in another."""
        firsts = np.rint(numbers).astype(np.int64)
        over = firsts + self._frames
        fits = firsts[0] >= 0 and (over[:-1] <= firsts[1:]).all() and over[-1] <= self._count
        return _Way(firsts, ends, note) if fits and (np.abs(numbers - firsts) <= self._exact).all() else None

    def _by_order(self) -> _Way | None:
        """One after the other, where that fills the file and the metadata know of nothing between them."""
        durations = np.diff(self._starts)
        if self._frames.sum() != self._count or (durations <= 0).any():
            return None
        unlike = [np.abs(durations * rate - self._frames[:-1]) for rate in (self._fps, 1 / self._period)]
        if (np.minimum(*unlike) > _DURATION).any():
            return None
        firsts = self._in_order
        away = np.abs(self._numbers(self._starts) - firsts).max()
        note = (
            f"starts in the metadata lie up to {away:.2f} frames beside the pictures; the episodes fill the file, so "
            "they were placed by their order"
        )
        return _Way(firsts, (firsts + self._frames).astype(np.float64), note)

    def _one_by_one(self) -> dict[int, Placed | str]:
        """Each by the picture nearest to its start, as long as starts have not drifted too far from the pictures."""
        zero = self._times[0] if self._late and self._starts[0] < self._times[0] - self._period / 2 else 0.0
        numbers = self._numbers(self._starts + zero)
        nearest = np.rint(numbers)
        offsets, doubts = self._drift(numbers)
        places = self._judged(_Way(nearest.astype(np.int64), self._numbers(self._stops + zero) - offsets, ""))
        rows = int(self._frames.sum())
        unfilled = f"the tables' {rows} rows do not fill the file's {self._count} pictures"
        order = unfilled if rows != self._count else "starts do not follow each other as the tables' rows do"
        for number, (claim, offset) in enumerate(zip(self._claims, np.abs(offsets).tolist(), strict=True)):
            placed = places[claim.episode]
            if isinstance(placed, Placed) and rows == self._count and placed.first != self._in_order[number]:
                places[claim.episode] = (
                    f"{self._path}: by from_timestamp the episode begins with picture {placed.first}, by the tables' "
                    f"rows, which fill the file, with picture {self._in_order[number]}: its frames cannot be told from "
                    "a neighbour's; correct from_timestamp, or the tables"
                )
            elif offset + doubts[number] > _UNTOLD:
                places[claim.episode] = (
                    f"{self._path}: by the metadata the episode begins at {claim.start:.4f} s, {offset:.2f} frames "
                    f"beside a picture, and {order}: its frames cannot be told from a neighbour's; correct "
                    "from_timestamp"
                )
            elif isinstance(placed, Placed) and offset > max(_NOTED, self._exact):
                note = (
                    f"{self._path}: by the metadata the episode begins at {claim.start:.4f} s, {offset:.2f} frames "
                    "beside the picture that was taken as its first"
                )
                places[claim.episode] = Placed(placed.first, placed.frames, {**placed.notes, "": note})
        return places

    def _drift(self, numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far each start is from its picture, and how much farther it may be (frames).

        A drift of a whole frame looks like none at all. It is followed from start to start where one episode follows
        the other; where pictures lie between that no episode has, it is taken to go on as it does elsewhere.
        """
        offsets = np.unwrap(numbers - np.rint(numbers), period=1.0)
        gaps = np.maximum(numbers - np.concatenate([[0], numbers[:-1] + self._frames[:-1]]), 0)
        if self._late and numbers[0] > _UNTOLD:
            return offsets, np.full(len(numbers), np.inf)  # nothing says whether times begin at the first picture
        runs = np.cumsum(gaps > _DURATION)
        along, across = numbers.copy(), offsets.copy()
        for run in np.unique(runs):
            along[runs == run] -= along[runs == run].mean()
            across[runs == run] -= across[runs == run].mean()
        if not along.any():
            # Not two episodes side by side: offsets that are no drift are small, or of the first one.
            return offsets, np.where((np.abs(offsets) > _NOTED) & (runs > 0), np.inf, 0)
        slope = float(along @ across / (along @ along))
        for run in np.unique(runs):
            offsets[runs == run] += np.rint((slope * numbers - offsets)[runs == run].mean())
        return offsets, np.abs(slope) * gaps.cumsum() / 2

    def _judged(self, way: _Way) -> dict[int, Placed | str]:
        """Places, where the end of each episode says the same as its start."""
        ends = way.firsts + self._frames
        over = way.ends - ends
        # Some writers name the last frame's time as the end. One episode alone may as well lack a frame.
        inclusive = bool((np.abs(over + 1) <= max(self._exact, _NOTED)).all())
        notes = {"starts": f"{self._path}: {way.note}"} if way.note else {}
        reach = np.maximum.accumulate(ends)
        places: dict[int, Placed | str] = {}
        for number, claim in enumerate(self._claims):
            first, end = int(way.firsts[number]), int(ends[number])
            after = int(way.firsts[number + 1]) if number + 1 < len(ends) else self._count
            stretch = "" if claim.end is None else f" between {claim.start:.2f} and {claim.end:.2f} s"
            if first < 0 or end > self._count:
                stretch = f" from {claim.start:.2f} s on"
                places[claim.episode] = self._miscounted(claim, min(end, self._count) - max(first, 0), stretch)
            elif end > after:
                places[claim.episode] = self._shared(claim, self._claims[number + 1])
            elif number and first < reach[number - 1]:
                places[claim.episode] = self._shared(claim, self._claims[int(np.argmax(ends[:number]))])
            elif abs(over[number]) < 0.5:
                places[claim.episode] = Placed(first, claim.frames, notes)
            elif claim.end is not None and (end == after or inclusive):
                what = "the time of the last frame" if abs(over[number] + 1) < 0.5 else f"{claim.end:.3f} s"
                note = f"{self._path}: to_timestamp is {what}, expected the time when the episode is over"
                places[claim.episode] = Placed(first, claim.frames, notes | {"ends": note})
            elif end == after:
                places[claim.episode] = Placed(first, claim.frames, notes)
            else:
                seen = after - first if claim.end is None else round(float(way.ends[number])) - first
                places[claim.episode] = self._miscounted(claim, seen, stretch)
        return places

    def _miscounted(self, claim: Claim, seen: int, stretch: str) -> str:
        return f"{self._path} has {max(seen, 0)} frames{stretch}, the episode's table {claim.frames}"

    def _shared(self, claim: Claim, other: Claim) -> str:
        return (
            f"{self._path}: by from_timestamp and the tables, episodes {claim.episode} and {other.episode} have "
            "pictures in common: the frames of neither can be told; correct from_timestamp, or the longer table"
        )
