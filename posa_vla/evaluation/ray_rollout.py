"""Rollouts in parallel Ray actors, one processor each, as the program of a Ray job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray

from posa_vla.evaluation.environments import TOGETHER, open_environment
from posa_vla.evaluation.job import RolloutJob
from posa_vla.evaluation.rollout import run_episodes
from posa_vla.evaluation.rows import Rows, gather
from posa_vla.evidence.record import EpisodeRow
from posa_vla.files import canonical_json
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.objects.trees import get_tree
from posa_vla.ray_jobs import job_main
from posa_vla.release.bundle import verify_bundle
from posa_vla.settings import Settings, cache_folder

# Longest time for scenes that are run together (s): to load policy and simulator, and a control step of each scene. A
# policy that takes longer for a step could control no robot.
_PATIENCE, _SLOWEST = 300.0, 2.0
# How often it is looked whether one takes longer (s).
_LOOK = 5.0


class RolloutWorker:
    """Holds one policy and a few environments, and runs the scenes that it is handed."""

    def __init__(self, job: RolloutJob) -> None:
        from posa_vla.model.posa_policy import load_policy

        self._job = job
        self._objects = open_objects(job.storage)
        self._kept = Rows(self._objects, job.folder, job.digest, job.suite)
        self._environments = [open_environment(job.suite)]
        self._policy = load_policy(_bundle(self._objects, job.digest), job.digest, threads=1)

    def run(self, seeds: list[int], recorded: list[int]) -> list[EpisodeRow]:
        """Runs scenes at a time, at most `TOGETHER`; keeps a video of those that are recorded."""
        from posa_vla.evaluation.pictures import keep_rollout

        while len(self._environments) < len(seeds):
            self._environments.append(open_environment(self._job.suite))
        rows = []
        for rollout in run_episodes(self._policy, self._environments, seeds, self._job.suite.params, recorded):
            if rollout.images:
                keep_rollout(self._objects, self._job.folder, rollout)
            self._kept.add(rollout.row)
            rows.append(rollout.row)
        return rows


def _bundle(objects: Objects, digest: str) -> Path:
    """The policy on this node, every byte verified."""
    folder = get_tree(objects, f"bundles/{digest}", cache_folder(Settings()))
    verify_bundle(folder, digest)
    return folder


def _parts(seeds: list[int], workers: int) -> list[list[int]]:
    """Scenes that a worker runs at a time: at most `TOGETHER`, fewer where the workers share what is left."""
    size = max(1, min(TOGETHER, -(-len(seeds) // workers)))
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def evaluate(job: RolloutJob) -> None:
    """Runs a policy on every scene; continues where a killed job stopped, and leaves `evidence.json`.

    Scenes that were under way when their actor died, or did not come back, are run once more, each for itself; the row
    of one that ends so again says `crashed` or `policy-hangs`, and the evidence is incomplete.

    Args:
        job: What is run, and where its results are left.

    Raises:
        PosaError: The bundle is not what its digest says.
    """
    suite, digest, objects = job.suite, job.digest, open_objects(job.storage)
    kept = Rows(objects, job.folder, digest, suite)
    rows = kept.find(suite.seeds)
    recorded = suite.seeds[: suite.params.videos]
    left = [seed for seed in suite.seeds if seed not in rows]
    tries = dict.fromkeys(left, 0)
    if left:
        _bundle(objects, digest)
        ray.init(log_to_driver=False, ignore_reinit_error=True)
    actor_class: Any = ray.remote(num_cpus=1)(RolloutWorker)
    processors = int(ray.cluster_resources().get("CPU", 1)) if left else 0  # type: ignore[no-untyped-call]  # Ray ships it untyped
    waiting = _parts(left, max(processors, 1))
    idle = [actor_class.remote(job) for _ in range(min(max(processors, 1), len(waiting)))]
    running: dict[Any, tuple[list[int], Any, float]] = {}
    limit = _PATIENCE + _SLOWEST * suite.params.max_steps * TOGETHER
    while waiting or running:
        while waiting and idle:
            seeds, actor = waiting.pop(0), idle.pop()
            running[actor.run.remote(seeds, recorded)] = (seeds, actor, time.monotonic())
        done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK)
        late = [of for of, (_, _, since) in running.items() if time.monotonic() - since > limit]
        if not done and not late:
            continue
        ended_one = done[0] if done else late[0]
        seeds, actor, _ = running.pop(ended_one)
        reason = "crashed"
        if not done:
            # It is killed as if it had crashed: nothing else ends a call that does not come back.
            reason = "policy-hangs"
            ray.kill(actor)
        try:
            finished = ray.get(ended_one)
            idle.append(actor)
        except ray.exceptions.RayActorError:
            idle.append(actor_class.remote(job))
            ended = kept.find(seeds)
            lost = [seed for seed in seeds if seed not in ended]
            for seed in lost:
                tries[seed] += 1
            waiting += [[seed] for seed in lost if tries[seed] < 2]
            without = {"success": False, "steps": 0, "path_length": 0, "return_code": reason}
            finished = [EpisodeRow(scene_seed=seed, **without) for seed in lost if tries[seed] == 2]
            finished += ended.values()
        rows |= {row.scene_seed: row for row in finished}
    evidence = gather(digest, suite, rows)
    objects.put(f"{job.folder}/evidence.json", canonical_json(evidence.model_dump(mode="json")))


if __name__ == "__main__":
    job_main(RolloutJob, evaluate)
