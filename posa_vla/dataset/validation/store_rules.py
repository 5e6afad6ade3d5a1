"""Rules that compare episodes with each other: nearly the same recording, and the same on both sides of the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from posa_vla.dataset.split import few_positions, split_position
from posa_vla.episodes.episode import Episode
from posa_vla.files import sha256_json
from posa_vla.validation_params import ValidateParams

# Points of a trajectory that are compared.
_POINTS = 8
# Neighbours of an episode that are looked at, and episodes that are asked about together.
_NEIGHBOURS, _BLOCK = 32, 4096


@dataclass(frozen=True)
class Trace:
    """What comparing needs to know of an episode.

    Attributes:
        batch: Digest of its batch.
        number: Its number in the batch.
        digest: Its digest.
        embodiment: Its embodiment's id.
        group: Equal for episodes that may be compared: embodiment and instruction.
        scene: Digest of its scene; empty where none was recorded.
        position: See `split_position`.
        points: Its state at equally spaced times, flat; `frames` below stands for its length.
        frames: Frames.
    """

    batch: str
    number: int
    digest: str
    embodiment: str
    group: str
    scene: str
    position: float
    points: list[float]
    frames: int


def trace_of(batch: str, number: int, digest: str, episode: Episode) -> Trace:
    """The trace of an episode."""
    chosen = np.linspace(0, len(episode) - 1, _POINTS).round().astype(int)
    return Trace(
        batch=batch,
        number=number,
        digest=digest,
        embodiment=episode.embodiment,
        group=sha256_json([episode.embodiment, episode.instruction])[:16],
        scene=sha256_json(episode.scene) if episode.scene else "",
        position=split_position(episode),
        points=[round(float(value), 5) for value in episode.state[chosen].reshape(-1)],
        frames=len(episode),
    )


def store_remarks(
    traces: Sequence[Trace], rules: ValidateParams, validation_fraction: float
) -> Iterator[tuple[Trace, str, str]]:
    """Trace, rule and value of what comparing the episodes shows: each episode once a rule, with its nearest.

    Of two on different sides of the split, the one that would be trained on is blamed: what was held out stays so.
    """
    groups: dict[str, list[Trace]] = {}
    robots: dict[str, list[tuple[str, float]]] = {}
    for trace in traces:
        groups.setdefault(trace.group, []).append(trace)
        robots.setdefault(trace.embodiment, []).append((trace.group, trace.position))
    few = {robot: few_positions(places, validation_fraction) for robot, places in robots.items()}
    threshold = rules.near_duplicate.threshold
    for group in groups.values():
        if len(group) < 2 or not threshold:
            continue
        line = _Trajectories(group)
        everyone = list(range(len(group)))
        for number, first, distance in line.nearest(everyone, everyone, threshold, earlier=True):
            same = f"differs from episode {_name(group[first])} by {100 * distance:.2f} %"
            yield group[number], "near-duplicate", f"{same} of each channel's range"
        counted = few[group[0].embodiment]
        held = [
            number
            for number, trace in enumerate(group)
            if (trace.position < validation_fraction if counted is None else trace.position in counted)
        ]
        trained = sorted(set(everyone) - set(held))
        for number, other, _ in line.nearest(trained, held, threshold, earlier=False):
            value = f"episode {_name(group[other])} is nearly the same, and is held out for validation"
            yield group[number], "scene-leakage", value


def _name(trace: Trace) -> str:
    return f"{trace.number} of batch {trace.batch[:12]}"


class _Trajectories:
    """Episodes of a group as points whose distance is the root mean square difference of their trajectories.

    Attributes:
        points: One an episode.
        seen: The same on a few axes: a projection never makes two points further apart than they are, so that what is
            near is found among those that are near here.
        frames: Their lengths; much longer or shorter is another recording.
    """

    def __init__(self, group: list[Trace]) -> None:
        points = np.array([trace.points for trace in group])
        channels = points.shape[1] // _POINTS
        spread = np.ptp(points.reshape(len(group) * _POINTS, channels), axis=0)
        moving = spread > 0
        scaled: NDArray[np.float64] = points.reshape(len(group), _POINTS, channels)[:, :, moving] / spread[moving]
        self.points = scaled.reshape(len(group), -1) / np.sqrt(max(_POINTS * int(moving.sum()), 1))
        width = self.points.shape[1]
        axes = (
            np.linalg.qr(np.random.default_rng(0).normal(size=(width, min(6, width))))[0] if width else np.zeros((0, 1))
        )
        self.seen: NDArray[np.float64] = self.points @ axes
        self.frames = np.array([trace.frames for trace in group])

    def nearest(
        self, numbers: list[int], others: list[int], threshold: float, *, earlier: bool
    ) -> Iterator[tuple[int, int, float]]:
        """Each of `numbers` with the nearest of `others`, and their distance, where that is below the threshold.

        A thousand episodes that are all alike are a thousand rows, not a million pairs: only a few neighbours of each
        are looked at, and all of the others only where those few do not decide.

        Args:
            numbers: Traces whose neighbours are sought, ascending.
            others: Traces among which they are sought, ascending.
            threshold: Largest distance.
            earlier: Whether only neighbours with a smaller number count.
        """
        if not numbers or not others:
            return
        # Of those that are quite equal the first stands for all.
        rows = np.concatenate([self.points[others], self.frames[others, None]], axis=1)
        _, first = np.unique(rows, axis=0, return_index=True)
        candidates = np.array(others)[np.sort(first)]
        tree = cKDTree(self.seen[candidates])
        count = min(_NEIGHBOURS, len(candidates))
        for start in range(0, len(numbers), _BLOCK):
            block = numbers[start : start + _BLOCK]
            ranks = list(range(1, count + 1))
            _, found = tree.query(self.seen[block], k=ranks, distance_upper_bound=np.nextafter(threshold, np.inf))
            for number, row in zip(block, np.asarray(found), strict=True):
                near = candidates[row[row < len(candidates)]]
                best = self._best(number, near, threshold, earlier)
                if best is None and len(near) == count < len(candidates):
                    best = self._best(number, candidates, threshold, earlier)
                if best is not None:
                    yield number, *best

    def _best(
        self, number: int, others: NDArray[np.int64], threshold: float, earlier: bool
    ) -> tuple[int, float] | None:
        mine = self.frames[number]
        alike = np.maximum(self.frames[others], mine) <= 1.1 * np.minimum(self.frames[others], mine)
        others = others[alike & (others < number if earlier else others != number)]
        if not len(others):
            return None
        distances = np.linalg.norm(self.points[others] - self.points[number], axis=1)
        best = int(distances.argmin())
        return (int(others[best]), float(distances[best])) if distances[best] < threshold else None
