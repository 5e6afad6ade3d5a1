"""Rollouts in parallel Ray actors, one processor each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from posa_vla.console import progress
from posa_vla.evaluation.rollout import Rows, Suite, gather, run_episode
from posa_vla.evidence.evidence import EpisodeRow, Evidence
from posa_vla.params import EvaluateParams


class RolloutWorker:
    """Holds one policy and one environment, and runs the scenes that it is handed."""

    def __init__(self, bundle: Path, digest: str, suite: Suite, out: Path) -> None:
        from posa_vla.model.posa_policy import load_policy

        self._environment = suite.open()
        self._policy = load_policy(bundle, digest, threads=1)
        self._suite, self._out = suite, out

    def run(self, seed: int, record: bool) -> EpisodeRow:
        """Runs one scene; keeps a video of it where asked."""
        from posa_vla.evaluation.report import keep_rollout

        rollout = run_episode(self._policy, self._environment, seed, self._suite.params, record)
        if record:
            keep_rollout(self._out, rollout)
        return rollout.row


def evaluate_on_ray(
    bundle: Path,
    digest: str,
    embodiment: str,
    task: str,
    seeds: Sequence[int],
    params: EvaluateParams,
    image_size: int,
    out: Path,
) -> Evidence:
    """Runs a policy on every scene on the current Ray cluster; continues where a killed call stopped.

    A scene whose actor died is run once more in a new actor; dead again, its row says `crashed`, and the evidence is
    incomplete.

    Args:
        bundle: Verified bundle folder, readable by every actor.
        digest: Its digest.
        embodiment: Shipped name or file.
        task: Name of the task.
        seeds: Scenes; of the first `params.videos` a video is kept.
        params: Limits.
        image_size: Pixels along each side.
        out: Folder of this evaluation: rows and videos.
    """
    suite = Suite(embodiment, task, list(seeds), params, image_size)
    kept = Rows(out, digest, suite)
    rows = kept.find(seeds)
    recorded = set(list(seeds)[: params.videos])
    waiting = [seed for seed in seeds if seed not in rows]
    tries = dict.fromkeys(waiting, 0)
    actor_class: Any = ray.remote(num_cpus=1)(RolloutWorker)

    def start() -> Any:
        return actor_class.remote(bundle, digest, suite, out)

    processors = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]  # Ray ships it untyped
    actors = min(max(int(processors), 1), len(waiting))
    idle = [start() for _ in range(actors)]
    running: dict[Any, tuple[int, Any]] = {}
    with progress("evaluate", len(seeds), done=len(rows), unit="episodes") as advance:
        while waiting or running:
            while waiting and idle:
                seed, actor = waiting.pop(0), idle.pop()
                running[actor.run.remote(seed, seed in recorded)] = (seed, actor)
            done, _ = ray.wait(list(running), num_returns=1)
            seed, actor = running.pop(done[0])
            try:
                row = ray.get(done[0])
                idle.append(actor)
            except ray.exceptions.RayActorError:
                idle.append(start())
                tries[seed] += 1
                if tries[seed] < 2:
                    waiting.append(seed)
                    continue
                row = EpisodeRow(scene_seed=seed, success=False, steps=0, path_length=0, return_code="crashed")
            kept.add(row)
            rows[seed] = row
            advance(1, f"{sum(r.success for r in rows.values())} solved")
    for actor in idle:
        ray.kill(actor)
    return gather(digest, suite, rows)
