"""The training loop on Ray Train: data-parallel workers, checkpoints that survive a crash."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from posa_vla.console import progress
from posa_vla.errors import PosaError
from posa_vla.files import new_folder
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.training.loop import Trainer

MetricsCallback = Callable[[int, dict[str, float]], None]


class Mailbox:
    """Carries metrics from the first worker to the driver while the training runs."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, dict[str, float]]] = []

    def put(self, step: int, metrics: dict[str, float]) -> None:
        """Leaves one row."""
        self._rows.append((step, metrics))

    def drain(self) -> list[tuple[int, dict[str, float]]]:
        """Takes all rows that are there."""
        rows, self._rows = self._rows, []
        return rows


def _worker(config: dict[str, Any]) -> None:
    """One Ray Train worker; every rank reports equally often, since a report is a barrier."""
    params = parse(Params, config["params"], "training parameters")
    torch.set_num_threads(params.train.threads)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    device = ray.train.torch.get_device()
    trainer = Trainer(
        Path(config["data"]),
        params,
        rank=rank,
        world=context.get_world_size(),
        device=device,
        distribute=lambda module: ray.train.torch.prepare_model(module, move_to_device=False),
    )
    earlier = ray.train.get_checkpoint()
    if earlier is not None:
        with earlier.as_directory() as folder:
            trainer.restore(Path(folder))
    mailbox = config["mailbox"]
    while trainer.step < params.train.steps:
        metrics = trainer.advance()
        done = trainer.step == params.train.steps
        keep = done or trainer.step % params.train.checkpoint_steps == 0
        if rank == 0 and metrics is not None:
            mailbox.put.remote(trainer.step, metrics | (trainer.validate() if keep else {}))
        if not keep:
            continue
        if rank == 0:
            with tempfile.TemporaryDirectory() as name:
                trainer.save(Path(name))
                if done:
                    (Path(name) / "policy").mkdir()
                    trainer.export(Path(name) / "policy")
                ray.train.report({"step": trainer.step}, checkpoint=Checkpoint.from_directory(name))
        else:
            ray.train.report({"step": trainer.step})


def _deliver(mailbox: Any, on_metrics: MetricsCallback, stop: threading.Event) -> None:
    last = False
    while not last:
        last = stop.wait(1.0)
        for step, metrics in ray.get(mailbox.drain.remote()):
            on_metrics(step, metrics)


def train_on_ray(
    data: Path, params: Params, key: str, storage: Path, on_metrics: MetricsCallback | None = None
) -> Path:
    """Trains on the current Ray cluster; resumes by `key` where an earlier call was stopped.

    Args:
        data: Prepared data folder, readable by every worker.
        params: All parameters.
        key: Content key of this training. It names the Ray run, so that the same key continues and another starts anew.
        storage: Folder for checkpoints and the finished policy.
        on_metrics: Called in this process with step and means while the training runs.

    Returns:
        The folder with model.safetensors, config.json, normalisation.json and embodiment.json.

    Raises:
        PosaError: The training failed, more often than it may be retried.
    """
    final = storage / key / "policy"
    if final.exists():
        return final
    mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
    scaling = ScalingConfig(
        num_workers=params.train.workers,
        use_gpu=torch.cuda.is_available(),
        resources_per_worker={"CPU": params.train.threads},
    )
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"params": params.model_dump(mode="json"), "data": str(data), "mailbox": mailbox},
        scaling_config=scaling,
        run_config=RunConfig(
            name=key[:32],
            storage_path=str(storage / "ray"),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    stop = threading.Event()
    with progress("train", params.train.steps, unit="step") as advance:
        shown = 0

        def show(step: int, metrics: dict[str, float]) -> None:
            nonlocal shown
            advance(max(step - shown, 0), f"loss {metrics['loss']:.3f}")
            shown = max(step, shown)
            if on_metrics is not None:
                on_metrics(step, metrics)

        courier = threading.Thread(target=_deliver, args=(mailbox, show, stop), daemon=True)
        courier.start()
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise PosaError(f"training {key[:12]} failed: {error}") from error
        finally:
            stop.set()
            courier.join(timeout=30)
            ray.kill(mailbox)
    if result.checkpoint is None:
        raise PosaError(
            f"training {key[:12]} ended without a checkpoint: delete {storage / 'ray' / key[:32]} and retry"
        )
    with result.checkpoint.as_directory() as name:
        policy = Path(name) / "policy"
        if not policy.is_dir():
            raise PosaError(f"training {key[:12]} stopped before its last step: run the same command again")
        with new_folder(final) as folder:
            shutil.copytree(policy, folder, dirs_exist_ok=True)
    shutil.rmtree(storage / "ray" / key[:32], ignore_errors=True)
    return final
