"""What the rollouts of an ablation's trainings say, with intervals."""

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
    """Values (S, N) over training seeds and scenes; NaN for a failure but in `success` and `steps_all`."""

    success: NDArray[np.float64]
    steps_all: NDArray[np.float64]
    steps: NDArray[np.float64]
    path: NDArray[np.float64]
    jerk: NDArray[np.float64]


def _arrays(group: Group, limit: int) -> _Arrays:
    rows = [list(group[seed]) for seed in sorted(group)]

    def values(name: str, failed: float = np.nan) -> NDArray[np.float64]:
        def value(row: EpisodeRow) -> float:
            found = getattr(row, name)
            return float(found) if row.success and found is not None else failed

        return np.array([[value(row) for row in line] for line in rows])

    success = np.array([[float(row.success) for row in line] for line in rows])
    return _Arrays(success, values("steps", limit), values("steps"), values("path_length"), values("jerk"))


def group_figures(group: Group, expert: Mapping[int, tuple[int, float]], limit: int) -> dict[str, Any]:
    """Figures of one variant under one condition, with 95 % intervals over training seeds and scenes.

    Args:
        group: Rows of the variant.
        expert: Scene seed -> steps and path length (m) of the scripted expert, where it solved the scene.
        limit: Control steps after which an episode has failed.

    Returns:
        `success`; `steps_all`, steps of all scenes where a failure counts as the limit; `steps`, `path_over_expert`
        and `jerk` of solved scenes; `by_seed`, success rates.
    """
    arrays = _arrays(group, limit)
    scenes = [row.scene_seed for row in next(iter(group.values()))]
    ours = np.array([expert[seed][1] if seed in expert else np.nan for seed in scenes])
    return {
        "success": success_interval(arrays.success).to_json(),
        "steps_all": mean_interval(arrays.steps_all).to_json(),
        "steps": mean_interval(arrays.steps).to_json(),
        "path_over_expert": mean_interval(arrays.path / ours[None]).to_json(),
        "jerk": mean_interval(arrays.jerk).to_json(),
        "by_seed": {str(seed): float(arrays.success[i].mean()) for i, seed in enumerate(sorted(group))},
        "scenes": len(scenes),
    }


def compare_groups(reference: Group, other: Group, limit: int) -> dict[str, Any]:
    """The reference against another variant on the same scenes.

    Failing helps neither side's `steps_all_ratio`. It may help `steps_ratio`: who fails where the way is long or hard
    has only short ways left.

    Args:
        reference: Rows of the one.
        other: Rows of the other.
        limit: Control steps after which an episode has failed.

    Returns:
        `success_difference` (reference minus other, 0 to 1), 95 % interval; of the trainings whose seeds have the same
        rank, with 95 % intervals, `steps_all_ratio` (reference over other, all scenes, a failure counts as the limit)
        and `steps_ratio` (the same on scenes that both solve); `both_solved`, how many of those.
    """
    ours, theirs = _arrays(reference, limit), _arrays(other, limit)
    paired = min(len(ours.success), len(theirs.success))
    both = (ours.success[:paired] > 0) & (theirs.success[:paired] > 0)
    steps_all = ours.steps_all[:paired], theirs.steps_all[:paired]
    return {
        "success_difference": success_difference(ours.success, theirs.success).to_json(),
        "steps_all_ratio": ratio_interval(*steps_all, np.ones_like(both)).to_json(),
        "steps_ratio": ratio_interval(ours.steps[:paired], theirs.steps[:paired], both).to_json(),
        "both_solved": int(both.sum()),
    }
