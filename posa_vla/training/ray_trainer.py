"""The training loop on Ray Train, the program of a Ray job: data-parallel, with checkpoints that survive a crash."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn

from posa_vla.errors import PosaError
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.objects.trees import get_tree, has_tree, put_tree
from posa_vla.ray_jobs import job_main
from posa_vla.schema import parse
from posa_vla.settings import Settings, cache_folder
from posa_vla.training.job import TrainingJob
from posa_vla.training.loop import Trainer, run_steps
from posa_vla.training.storage import Row, put_metrics

# Seconds between two rows of metrics that are left in the storage.
_METRICS_INTERVAL = 2.0
# Seconds for which a cluster may bring up the nodes that a training needs.
_PATIENCE = 600.0


class _Metrics:
    """Leaves rows of metrics in the storage, several in an object."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self._objects, self._folder = objects, folder
        self._rows: list[Row] = []
        self._last = 0.0

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Takes one row of metrics."""
        self._rows.append((step, metrics))
        if time.monotonic() - self._last > _METRICS_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Writes the rows taken so far; a checkpoint comes after, for who goes on from it repeats no row."""
        if self._rows:
            put_metrics(self._objects, self._folder, self._rows)
            self._rows, self._last = [], time.monotonic()


def _distribute(module: nn.Module, *, find_unused_parameters: bool) -> nn.Module:
    options = {"find_unused_parameters": find_unused_parameters}
    wrapped: nn.Module = ray.train.torch.prepare_model(module, move_to_device=False, parallel_strategy_kwargs=options)
    return wrapped


def _worker(config: dict[str, Any]) -> None:
    """One Ray Train worker; every rank reports equally often, since a report is a barrier."""
    job = parse(TrainingJob, config, "training job")
    params = job.params
    torch.set_num_threads(params.train.threads)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    objects, cache = open_objects(job.storage), cache_folder(Settings())
    trainer = Trainer(
        get_tree(objects, job.data, cache),
        params,
        start=None if job.start is None else get_tree(objects, job.start, cache),
        rank=rank,
        world=context.get_world_size(),
        device=ray.train.torch.get_device(),
        distribute=_distribute,
    )
    earlier = ray.train.get_checkpoint()
    if earlier is not None:
        with earlier.as_directory() as folder:
            trainer.restore(Path(folder))
    rows = _Metrics(objects, job.folder)

    def keep() -> None:
        if rank != 0:
            ray.train.report({"step": trainer.step})
            return
        rows.flush()
        with tempfile.TemporaryDirectory() as name:
            trainer.save(Path(name))
            if trainer.done:
                (Path(name) / "policy").mkdir()
                trainer.export(Path(name) / "policy")
            ray.train.report({"step": trainer.step}, checkpoint=Checkpoint.from_directory(name))

    run_steps(trainer, on_metrics=rows.add, keep=keep)


def _place(location: str) -> dict[str, Any]:
    """Where Ray Train keeps checkpoints.

    Arrow's own S3 makes an empty object of every folder, which stores over a file system refuse.
    """
    if not location.startswith("s3://"):
        return {"storage_path": location}
    import pyarrow.fs
    import s3fs

    handler = pyarrow.fs.FSSpecHandler(s3fs.S3FileSystem(use_listings_cache=False))
    return {
        "storage_path": location.removeprefix("s3://"),
        "storage_filesystem": pyarrow.fs.PyFileSystem(handler),
    }


def _processors() -> float:
    count: float = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]  # Ray ships it untyped
    return count


def await_processors(workers: int, threads: int, patience: float = _PATIENCE) -> None:
    """Waits until the cluster has as many processors as a training takes, busy or not.

    Ray would wait for ever. What is asked for here makes a cluster that grows by demand bring up nodes.

    Raises:
        PosaError: It has fewer, and has brought up none.
    """
    if _processors() >= workers * threads:
        return
    wanted = ray.util.placement_group([{"CPU": threads}] * workers)
    deadline = time.monotonic() + patience
    try:
        while (there := _processors()) < workers * threads:
            if time.monotonic() > deadline:
                raise PosaError(
                    f"the Ray cluster has {there:.0f} processors, and train.workers={workers} with "
                    f"train.threads={threads} takes {workers * threads}: add nodes, or set train.workers lower"
                )
            time.sleep(1.0)
    finally:
        ray.util.remove_placement_group(wanted)


def train(job: TrainingJob) -> None:
    """Trains on the cluster that this process belongs to, going on where an earlier job of this key stopped.

    Args:
        job: What is trained, and where it is left.

    Raises:
        PosaError: The training failed, more often than it may be retried.
    """
    params, folder, objects = job.params, job.folder, open_objects(job.storage)
    if has_tree(objects, f"{folder}/policy"):
        return
    ray.init(log_to_driver=False, ignore_reinit_error=True)
    await_processors(params.train.workers, params.train.threads)
    processors = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray ships it untyped
    trainer = TorchTrainer(
        _worker,
        train_loop_config=job.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=params.train.workers,
            use_gpu=processors.get("GPU", 0) >= params.train.workers,
            resources_per_worker={"CPU": params.train.threads},
        ),
        run_config=RunConfig(
            name="ray",
            **_place(f"{objects.location}/{folder}"),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise PosaError(f"{folder} failed: {error}") from error
    if result.checkpoint is None:
        raise PosaError(f"{folder} ended without a checkpoint: delete it from {objects.location} and retry")
    with result.checkpoint.as_directory() as name:
        policy = Path(name) / "policy"
        if not policy.is_dir():
            raise PosaError(f"{folder} stopped before its last step: run the same command again")
        put_tree(objects, policy, f"{folder}/policy")
    objects.remove(f"{folder}/ray/")


if __name__ == "__main__":
    job_main(TrainingJob, train)
