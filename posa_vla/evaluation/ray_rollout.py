"""Rollouts in parallel Ray actors, one processor each, as the program of a Ray job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

from posa_vla.evaluation.rollout import Rows, Suite, gather, run_episode
from posa_vla.evidence.evidence import EpisodeRow
from posa_vla.files import canonical_json
from posa_vla.object_trees import get_tree
from posa_vla.objects import Objects, open_objects
from posa_vla.params import EvaluateParams
from posa_vla.ray_jobs import job_main
from posa_vla.release.bundle import verify_bundle
from posa_vla.schema import parse
from posa_vla.settings import Settings, cache_folder


class RolloutWorker:
    """Holds one policy and one environment, and runs the scenes that it is handed."""

    def __init__(self, spec: dict[str, Any], suite: Suite) -> None:
        from posa_vla.model.posa_policy import load_policy

        self._objects = open_objects(spec["storage"])
        self._folder: str = spec["folder"]
        self._environment = suite.open()
        self._policy = load_policy(_bundle(self._objects, spec["digest"]), spec["digest"], threads=1)
        self._suite = suite

    def run(self, seed: int, record: bool) -> EpisodeRow:
        """Runs one scene; keeps a video of it where asked."""
        from posa_vla.evaluation.report import keep_rollout

        rollout = run_episode(self._policy, self._environment, seed, self._suite.params, record)
        if record:
            keep_rollout(self._objects, self._folder, rollout)
        return rollout.row


def _bundle(objects: Objects, digest: str) -> Path:
    """The policy on this node, every byte verified."""
    folder = get_tree(objects, f"bundles/{digest}", cache_folder(Settings()))
    verify_bundle(folder, digest)
    return folder


def suite_of(spec: dict[str, Any]) -> Suite:
    """The conditions that a job's spec describes."""
    params = parse(EvaluateParams, spec["params"], "evaluation parameters")
    return Suite(spec["embodiment"], spec["task"], spec["seeds"], params, spec["image_size"], spec["flow_steps"])


def evaluate(spec: dict[str, Any]) -> None:
    """Runs a policy on every scene; continues where a killed job stopped, and leaves `evidence.json`.

    A scene whose actor died is run once more in a new actor; dead again, its row says `crashed`, and the evidence is
    incomplete.

    Args:
        spec: `storage`; `digest` (of the bundle there), `folder` (of this evaluation there), `embodiment`, `task`,
            `seeds`, `params`, `image_size`, `flow_steps` (the policy's own).

    Raises:
        PosaError: The bundle is not what its digest says.
    """
    suite, digest, objects = suite_of(spec), spec["digest"], open_objects(spec["storage"])
    kept = Rows(objects, spec["folder"], digest, suite)
    rows = kept.find(suite.seeds)
    recorded = set(suite.seeds[: suite.params.videos])
    waiting = [seed for seed in suite.seeds if seed not in rows]
    tries = dict.fromkeys(waiting, 0)
    if waiting:
        _bundle(objects, digest)
        ray.init(log_to_driver=False, ignore_reinit_error=True)
    actor_class: Any = ray.remote(num_cpus=1)(RolloutWorker)
    processors = int(ray.cluster_resources().get("CPU", 1)) if waiting else 0  # type: ignore[no-untyped-call]  # Ray ships it untyped
    idle = [actor_class.remote(spec, suite) for _ in range(min(max(processors, 1), len(waiting)))]
    running: dict[Any, tuple[int, Any]] = {}
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
            idle.append(actor_class.remote(spec, suite))
            tries[seed] += 1
            if tries[seed] < 2:
                waiting.append(seed)
                continue
            row = EpisodeRow(scene_seed=seed, success=False, steps=0, path_length=0, return_code="crashed")
        kept.add(row)
        rows[seed] = row
    evidence = gather(digest, suite, rows)
    objects.put(f"{spec['folder']}/evidence.json", canonical_json(evidence.model_dump(mode="json")))


if __name__ == "__main__":
    job_main(evaluate)
