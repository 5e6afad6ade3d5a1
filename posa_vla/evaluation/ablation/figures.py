"""What the rollouts of an ablation's cells say, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.bootstrap import mean_interval, ratio_interval, success_difference, success_interval
from posa_vla.evidence.record import EpisodeRow

# Rows of one group of trainings that differ in their seed alone: seed -> rows in the order of the scenes.
Group = Mapping[int, Sequence[EpisodeRow]]


@dataclass(frozen=True)
class _Arrays:
    """Values (S, N) over training seeds and scenes; those of a failure are NaN but for `success`."""

    success: NDArray[np.float64]
    steps: NDArray[np.float64]
    path: NDArray[np.float64]
    jerk: NDArray[np.float64]


def _arrays(group: Group) -> _Arrays:
    rows = [list(group[seed]) for seed in sorted(group)]

    def values(name: str) -> NDArray[np.float64]:
        def value(row: EpisodeRow) -> float:
            found = getattr(row, name)
            return float(found) if row.success and found is not None else np.nan

        return np.array([[value(row) for row in line] for line in rows])

    success = np.array([[float(row.success) for row in line] for line in rows])
    return _Arrays(success, values("steps"), values("path_length"), values("jerk"))


def group_figures(group: Group, expert: Mapping[int, tuple[int, float]]) -> dict[str, Any]:
    """Figures of one variant under one condition, with 95 % intervals over training seeds and scenes.

    Args:
        group: Rows of the variant.
        expert: Scene seed -> steps and path length (m) of the scripted expert, where it solved the scene.

    Returns:
        `success`, `steps`, `path_over_expert` and `jerk`, the last three of solved scenes; `by_seed`, success rates.
    """
    arrays = _arrays(group)
    scenes = [row.scene_seed for row in next(iter(group.values()))]
    ours = np.array([expert[seed][1] if seed in expert else np.nan for seed in scenes])
    return {
        "success": success_interval(arrays.success).to_json(),
        "steps": mean_interval(arrays.steps).to_json(),
        "path_over_expert": mean_interval(arrays.path / ours[None]).to_json(),
        "jerk": mean_interval(arrays.jerk).to_json(),
        "by_seed": {str(seed): float(arrays.success[i].mean()) for i, seed in enumerate(sorted(group))},
        "scenes": len(scenes),
    }


def compare_groups(reference: Group, other: Group) -> dict[str, Any]:
    """The reference against another variant on the same scenes.

    Returns:
        `success_difference` (reference minus other, 0 to 1) and `steps_ratio` (reference over other, on scenes that
        both solve with the training seeds of the same rank), 95 % intervals; `both_solved`, how many of those.
    """
    ours, theirs = _arrays(reference), _arrays(other)
    paired = min(len(ours.success), len(theirs.success))
    both = (ours.success[:paired] > 0) & (theirs.success[:paired] > 0)
    return {
        "success_difference": success_difference(ours.success, theirs.success).to_json(),
        "steps_ratio": ratio_interval(ours.steps[:paired], theirs.steps[:paired], both).to_json(),
        "both_solved": int(both.sum()),
    }
