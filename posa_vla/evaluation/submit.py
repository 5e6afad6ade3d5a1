"""An evaluation as a job of a Ray cluster, followed from here."""

from __future__ import annotations

from collections.abc import Sequence

from posa_vla.console import progress
from posa_vla.errors import PosaError
from posa_vla.evaluation.job import RolloutJob
from posa_vla.evaluation.rollout import Rows
from posa_vla.evidence.evidence import Evidence
from posa_vla.files import sha256_json
from posa_vla.model.config import read_config
from posa_vla.object_trees import put_tree
from posa_vla.objects import Objects
from posa_vla.params import EvaluateParams
from posa_vla.ray_jobs import Jobs
from posa_vla.release.bundle import Bundle
from posa_vla.schema import parse_json


def evaluate_as_job(
    jobs: Jobs,
    objects: Objects,
    bundle: Bundle,
    embodiment: str,
    task: str,
    seeds: Sequence[int],
    params: EvaluateParams,
    image_size: int,
    folder: str,
) -> Evidence:
    """Runs a policy on every scene on a cluster; continues where an earlier job stopped, joins one that is running.

    Args:
        jobs: Of the cluster.
        objects: Storage that its nodes reach.
        bundle: The policy, on this machine.
        embodiment: Shipped name, or a file that the nodes have.
        task: Name of the task.
        seeds: Scenes; of the first `params.videos` a video is kept.
        params: Limits.
        image_size: Pixels along each side.
        folder: Of this evaluation in the storage: rows, `videos/`, `overlays/`, `evidence.json`.

    Raises:
        PosaError: The job failed, or the cluster is gone.
    """
    job = RolloutJob(
        storage=objects.location,
        digest=bundle.digest,
        folder=folder,
        embodiment=embodiment,
        task=task,
        seeds=list(seeds),
        params=params,
        image_size=image_size,
        flow_steps=read_config(bundle.folder).params.flow_steps,
    )
    kept = Rows(objects, folder, bundle.digest, job.suite)
    put_tree(objects, bundle.folder, f"bundles/{bundle.digest}")
    with progress("evaluate", len(seeds), done=(shown := kept.count()), unit="episodes") as advance:

        def watch() -> None:
            nonlocal shown
            now = kept.count()
            if now > shown:
                advance(now - shown)
                shown = now

        name = f"evaluate-{sha256_json(job.model_dump(mode='json'))}"
        jobs.run(name, "posa_vla.evaluation.ray_rollout", job, watch)
    path = f"{folder}/evidence.json"
    data = objects.get(path)
    if data is None:
        raise PosaError(f"the evaluation ended, and {objects.location} holds no {path}: run the same command again")
    return parse_json(Evidence, data, path)
