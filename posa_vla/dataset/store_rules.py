"""Rules that compare episodes with each other: nearly the same recording, and the same on both sides of the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from posa_vla.dataset.split import split_position
from posa_vla.episodes.episode import Episode
from posa_vla.files import sha256_json
from posa_vla.params import ValidateParams

# Points of a trajectory that are compared.
_POINTS = 8


@dataclass(frozen=True)
class Trace:
    """What comparing needs to know of an episode.

    Attributes:
        batch: Its batch.
        number: Its number there.
        digest: Its digest.
        group: Equal for episodes that may be compared: embodiment and instruction.
        scene: Digest of its scene; empty where none was recorded.
        position: See `split_position`.
        points: Its state at equally spaced times, flat; `frames` below stands for its length.
        frames: Frames.
    """

    batch: str
    number: int
    digest: str
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
        group=sha256_json([episode.embodiment, episode.instruction])[:16],
        scene=sha256_json(episode.scene) if episode.scene else "",
        position=split_position(episode),
        points=[round(float(value), 5) for value in episode.state[chosen].reshape(-1)],
        frames=len(episode),
    )


def store_remarks(
    traces: Sequence[Trace], rules: ValidateParams, validation_fraction: float
) -> Iterator[tuple[Trace, str, str]]:
    """Trace, rule and value of what comparing the episodes shows.

    Of two on different sides of the split, the one that would be trained on is blamed: what was held out stays so.
    """
    groups: dict[str, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(trace.group, []).append(trace)
    for group in groups.values():
        for first, second, distance in _near(group, rules.near_duplicate.threshold):
            same = f"differs from episode {first.number} of batch {first.batch[:12]} by {100 * distance:.2f} %"
            yield second, "near-duplicate", f"{same} of each channel's range"
            held = [trace for trace in (first, second) if trace.position < validation_fraction]
            if len(held) == 1:
                trained = second if held[0] is first else first
                other = f"episode {held[0].number} of batch {held[0].batch[:12]}"
                yield trained, "scene-leakage", f"{other} is nearly the same, and is held out for validation"


def _near(group: list[Trace], threshold: float) -> Iterator[tuple[Trace, Trace, float]]:
    """Pairs of a group whose root mean square difference is below the threshold.

    A projection onto a few axes never makes two points further apart than they are: it finds all candidates. Equal
    trajectories are each compared with the first of them, so that a thousand copies are not a million pairs.
    """
    if len(group) < 2 or not threshold:
        return
    points = np.array([trace.points for trace in group])
    channels = points.shape[1] // _POINTS
    spread = np.ptp(points.reshape(len(group) * _POINTS, channels), axis=0)
    moving = spread > 0
    scaled: NDArray[np.float64] = points.reshape(len(group), _POINTS, channels)[:, :, moving] / spread[moving]
    flat = scaled.reshape(len(group), -1) / np.sqrt(max(_POINTS * int(moving.sum()), 1))
    _, chosen, copies = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    pairs = [(int(chosen[copy]), number) for number, copy in enumerate(copies.reshape(-1)) if chosen[copy] != number]
    if len(chosen) > 1:
        axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(flat.shape[1], min(6, flat.shape[1]))))
        near = cKDTree(flat[chosen] @ axes).query_pairs(threshold)
        pairs += [(int(min(chosen[[a, b]])), int(max(chosen[[a, b]]))) for a, b in near]
    for first, second in sorted(pairs):
        distance = float(np.linalg.norm(flat[first] - flat[second]))
        lengths = group[first].frames, group[second].frames
        if distance < threshold and max(lengths) <= 1.1 * min(lengths):
            yield group[first], group[second], distance
