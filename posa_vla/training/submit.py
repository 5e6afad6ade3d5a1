"""A training as a job of a Ray cluster, followed from here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from posa_vla.console import progress
from posa_vla.objects.contract import Objects
from posa_vla.objects.trees import get_tree, has_tree, put_tree
from posa_vla.params import Params
from posa_vla.ray_jobs import Jobs
from posa_vla.training.forecast import Forecast, say_anchors, say_of_chunks
from posa_vla.training.job import TrainingJob
from posa_vla.training.start import Start, say_start
from posa_vla.training.storage import Row, get_metrics, metrics_paths, policy_path, training_path

MetricsCallback = Callable[[int, dict[str, float]], None]


def train_as_job(
    jobs: Jobs,
    objects: Objects,
    data: Path,
    version: str,
    params: Params,
    key: str,
    cache: Path,
    on_metrics: MetricsCallback,
    start: Start | None = None,
) -> Path:
    """Trains on a cluster; continues by `key` where an earlier job was stopped, and joins one that is running.

    Args:
        jobs: Jobs of the cluster.
        objects: Storage that its nodes reach.
        data: Prepared data folder on this machine.
        version: Name of the data in the storage.
        params: All parameters.
        key: Content key of this training.
        cache: Where the policy is kept if the storage is elsewhere.
        on_metrics: Called in this process with step and means while the training runs.
        start: The policy that it starts from; random weights if None.

    Returns:
        The folder with model.safetensors, config.json, normalisation.json and embodiment.json.

    Raises:
        BadInput: The policy to start from does not fit data or parameters; nothing was begun.
        PosaError: The training failed, or the cluster is gone.
    """
    policy = policy_path(key)
    if not has_tree(objects, policy):
        if start is not None:
            say_start(start, data, params)
            put_tree(objects, start.folder, start.tree)
        put_tree(objects, data, f"data/{version}")
        seen: set[str] = set()

        def news() -> list[Row]:
            paths = [path for path in metrics_paths(objects, key) if path not in seen]
            seen.update(paths)
            return [row for path in paths for row in get_metrics(objects, path)]

        shown = 0
        for step, values in news():  # an earlier call's
            on_metrics(step, values)
            shown = max(step, shown)
        if start is None:
            say_anchors(data, params)
        say_of_chunks(data, params)
        forecast = Forecast(params.train)
        with progress("train", params.train.steps, done=shown, unit="step") as advance:

            def watch() -> None:
                nonlocal shown
                for step, values in news():
                    advance(max(step - shown, 0), f"loss {values['loss']:.3f}")
                    shown = max(step, shown)
                    forecast.add(step, values)
                    on_metrics(step, values)

            job = TrainingJob(
                schema_version=1 if start is None else 2,
                storage=objects.location,
                data=f"data/{version}",
                folder=training_path(key),
                params=params,
                start=None if start is None else start.tree,
            )
            jobs.run(f"train-{key}", "posa_vla.training.ray_trainer", job, watch)
    return get_tree(objects, policy, cache)
