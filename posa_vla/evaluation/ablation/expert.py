"""The scripted expert on the scenes that policies are run on: what their steps and paths are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from posa_vla.console import progress
from posa_vla.evaluation.environments import open_environment
from posa_vla.evaluation.rollout import path_length
from posa_vla.evidence.suite import Suite
from posa_vla.params import Params


def expert_runs(params: Params, seeds: Sequence[int]) -> dict[int, tuple[int, float]]:
    """Scene seed -> steps and path length (m) of the expert without noise, for the scenes that it solves."""
    from posa_vla.sim.demonstration import demonstrate

    suite = Suite.of(params, seeds)
    runs = {}
    with closing(open_environment(suite)) as environment, progress("expert", len(seeds), unit="scenes") as advance:
        for seed in seeds:
            episode = demonstrate(environment, seed, 0.0)
            if episode is not None and episode.end_effector is not None:
                runs[seed] = (len(episode), path_length(episode.end_effector[:, :3]))
            advance(1)
    return runs
