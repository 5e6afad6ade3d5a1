"""An evaluation as a job of a Ray cluster, followed from here."""

from __future__ import annotations

from posa_vla.console import progress, say
from posa_vla.errors import PosaError
from posa_vla.evaluation.job import RolloutJob
from posa_vla.evaluation.rows import Rows
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.suite import Suite
from posa_vla.files import sha256_json
from posa_vla.model.config import read_config
from posa_vla.objects.contract import Objects
from posa_vla.objects.trees import put_tree
from posa_vla.policy.made_for import own_execution
from posa_vla.ray_jobs import Jobs
from posa_vla.release.bundle import Bundle
from posa_vla.schema import parse_json


def evaluate_as_job(
    jobs: Jobs,
    objects: Objects,
    bundle: Bundle,
    suite: Suite,
    folder: str,
) -> Evidence:
    """Runs a policy on every scene on a cluster; continues where an earlier job stopped, joins one that is running.

    Args:
        jobs: Jobs of the cluster.
        objects: Storage that its nodes reach.
        bundle: The policy, on this machine.
        suite: Scenes and conditions; its embodiment is a shipped name, or a file that the nodes have. Of the first
            `suite.params.videos` scenes a video is kept.
        folder: Of this evaluation in the storage: rows, `videos/`, `overlays/`, `evidence.json`.

    Raises:
        PosaError: The job failed, or the cluster is gone.
    """
    config = read_config(bundle.folder)
    if config.image_size > suite.image_size:
        say(
            f"policy {bundle.digest[:12]} takes pictures of {config.image_size} pixels; the simulator's "
            f"{suite.image_size} are blown up for it. Set collect.image_size={config.image_size} to judge it on its own"
        )
    own = own_execution(bundle.folder, config.params.flow_steps)
    job = RolloutJob(
        storage=objects.location,
        digest=bundle.digest,
        folder=folder,
        suite=suite.model_copy(update={"flow_steps": own.flow_steps}),
    )
    kept = Rows(objects, folder, bundle.digest, job.suite)
    put_tree(objects, bundle.folder, f"bundles/{bundle.digest}")
    with progress("evaluate", len(suite.seeds), done=(shown := kept.count()), unit="episodes") as advance:

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
