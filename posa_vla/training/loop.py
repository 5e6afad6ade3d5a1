"""The training loop in plain torch: it runs without Ray, and Ray's workers run the same steps."""

from __future__ import annotations

import math
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from posa_vla.console import progress
from posa_vla.dataset.shards.augment import augment
from posa_vla.dataset.shards.loader import Batch, BatchSampler, PackedDataset
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import new_folder
from posa_vla.model.action_units import ActionUnits
from posa_vla.model.build import new_model, normalisation_of, read_prepared, trained_state
from posa_vla.model.losses import Objective, Targets
from posa_vla.model.normalisation import Standardise
from posa_vla.model.posa_policy import write_policy_files
from posa_vla.model.settled import settled
from posa_vla.model.start import read_normalisation, started_model, started_params
from posa_vla.params import Params, TrainParams
from posa_vla.training.average import follow, in_place_of
from posa_vla.training.checkpoints import load_state, save_state
from posa_vla.training.distribution import Distribute, alone
from posa_vla.training.forecast import Forecast, say_anchors, say_of_chunks
from posa_vla.training.start import Start, say_start

# Steps between two rows of metrics.
REPORT_STEPS = 10
# Frames of the validation split that the validation loss is measured on.
VALIDATION_FRAMES = 512


def learning_rate(step: int, params: TrainParams) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    left = (step - params.warmup_steps) / max(params.steps - params.warmup_steps, 1)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * min(left, 1.0)))


def low_precision(params: TrainParams, device: torch.device) -> bool:
    """Whether the passes run in bf16."""
    if params.precision != "auto":
        return params.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Trainer:
    """One worker's share of a training.

    Everything random is drawn from generators seeded by (seed, step, rank), so that a resumed training goes through
    the same steps as an uninterrupted one.
    """

    def __init__(
        self,
        data: Path,
        params: Params,
        *,
        start: Path | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
        distribute: Distribute = alone,
    ) -> None:
        """Sets up model, data and optimiser.

        Args:
            data: Prepared data folder.
            params: All parameters.
            start: Folder of the policy whose weights it begins with; random ones if None. Such a policy knows its
                anchors: no steps are on the anchor loss alone.
            rank: This worker's number.
            world: Number of workers.
            device: Where to train; the CPU by default.
            distribute: Wraps the objective, once for each of the training's two stages.
        """
        prepared = read_prepared(data)
        manifest = read_manifest(data)
        params = started_params(start, prepared, manifest, params) if start else settled(params, manifest)
        self.params = params.train
        self.embodiment = prepared.embodiment
        kept = start is not None and self.params.normalisation == "kept"
        self.normalisation = read_normalisation(start) if start and kept else normalisation_of(data, prepared, params)
        self.device = device or torch.device("cpu")
        self.rank, self.world = rank, world
        self.step = 0
        if self.params.batch % world:
            raise BadInput(f"train.batch {self.params.batch} must be a multiple of the {world} workers")
        self.captions = prepared.captions
        self.train_data = PackedDataset(data, "train", params.model.horizon)
        self.validation_data = PackedDataset(data, "validation", params.model.horizon)
        # Without any anchor label there is nothing that steps on the anchor loss alone could learn.
        self.anchor_only_steps = self.params.anchor_only_steps if self.train_data.labelled and start is None else 0
        self.sampler = BatchSampler(len(self.train_data), self.params.batch, self.params.seed, rank, world)
        seed = self.params.seed
        model = new_model(prepared, params, seed) if start is None else started_model(start, prepared, params)
        self.model = model.to(self.device)
        self.state_units = Standardise(self.normalisation.state, self.normalisation.state_clip).to(self.device)
        middle = [channel.middle for channel in self.embodiment.action]
        self.action_units = ActionUnits(self.normalisation.action, self.model.config.actions, middle).to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.params.seed)
            self.objective = Objective(
                self.model,
                alpha=self.params.anchor_alpha,
                anchor_weight=self.params.anchor_weight,
                draws=self.params.flow_draws,
                keypoint_weight=self.params.keypoint_weight,
            ).to(self.device)
        self._distribute = distribute
        self._distributed: tuple[bool, nn.Module] | None = None
        self.average = {name: value.detach().clone() for name, value in trained_state(self.model).items()}
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.objective.parameters() if parameter.requires_grad],
            lr=self.params.learning_rate,
            betas=(0.95, 0.999),
            eps=1e-8,
            weight_decay=self.params.weight_decay,
            fused=True,
        )
        self.bf16 = low_precision(self.params, self.device)
        self.sums: dict[str, list[float]] = {}
        self._input_seconds = self._seconds = 0.0

    def _wrapped(self, anchor_only: bool) -> nn.Module:
        """The objective as the workers share it in this stage: in the first one the action head gets no gradients."""
        if self._distributed is None or self._distributed[0] != anchor_only:
            self._distributed = None  # a wrapper takes its hooks off the gradients before the next one puts its own
            self._distributed = anchor_only, self._distribute(self.objective, find_unused_parameters=anchor_only)
        return self._distributed[1]

    def _loss(
        self, objective: nn.Module, batch: Batch, generator: torch.Generator, anchor_only: bool
    ) -> dict[str, Tensor]:
        device = self.device
        state = batch.state.to(device)
        targets = Targets(
            action=self.action_units(batch.action.to(device), state),
            action_valid=batch.action_valid.to(device),
            captions=batch.caption.to(device),
            anchor_points={role: points.to(device) for role, points in batch.anchor_points.items()},
            anchor_valid={role: valid.to(device) for role, valid in batch.anchor_valid.items()},
            present={role: there.to(device) for role, there in batch.present.items()},
        )
        images = {role: image.to(device) for role, image in batch.images.items()}
        texts = [self.captions[int(i)] for i in batch.caption]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            result: dict[str, Tensor] = objective(
                images, self.state_units(state), texts, targets, generator, anchor_only
            )
        return result

    def advance(self) -> dict[str, float] | None:
        """Does one optimiser step; returns mean metrics every `REPORT_STEPS` steps.

        Raises:
            PosaError: The gradients are not finite; the weights are as they were before this step.
        """
        started = time.perf_counter()
        generator = torch.Generator().manual_seed((self.params.seed * 2**24 + self.step) * 2**10 + self.rank)
        batch = self.train_data.sample(self.sampler.indices(self.step))
        drawn = {name: getattr(self.params, name) for name in ("crop", "background", "camera_dropout")}
        batch = augment(batch, generator, self.params.shift, self.params.jitter, **drawn)
        self._input_seconds += time.perf_counter() - started
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.params)
        anchor_only = self.step < self.anchor_only_steps
        result = self._loss(self._wrapped(anchor_only), batch, generator, anchor_only)
        self.optimizer.zero_grad(set_to_none=True)
        result["loss"].backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        result["gradient_norm"] = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        if not torch.isfinite(result["gradient_norm"]):
            raise PosaError(
                f"the gradients are {float(result['gradient_norm'])} at step {self.step + 1}, and the training loss is "
                f"{float(result['loss'].detach())}: lower train.learning_rate (now {self.params.learning_rate}) "
                "and run again"
            )
        self.optimizer.step()
        self.step += 1
        follow(self.average, self.model, self.step, self.params.ema)
        for name, value in result.items():
            self.sums.setdefault(name, []).append(float(value.detach()))
        self._seconds += time.perf_counter() - started
        if self.step % REPORT_STEPS and self.step != self.params.steps:
            return None
        count = len(self.sums["loss"])  # fewer than usual after a resumed training's first steps, and at the end
        metrics = {name: sum(values) / len(values) for name, values in self.sums.items()}
        metrics |= {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "steps_per_second": count / self._seconds,
            "input_share": self._input_seconds / self._seconds,
            "memory_gb": self._memory() / 1e9,
            "bf16": float(self.bf16),
        }
        self.sums, self._input_seconds, self._seconds = {}, 0.0, 0.0
        return metrics

    def _memory(self) -> int:
        """The most memory that this worker has held, bytes: of its GPU, or of its process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB

    @property
    def done(self) -> bool:
        """Whether the last step has been done."""
        return self.step >= self.params.steps

    def validate(self) -> dict[str, float]:
        """Losses of the averaged weights on held-out episodes, without augmentation; empty where none are held out.

        They are what is exported. A batch is as large as this worker's of a training step, which fits its memory.
        """
        count = min(len(self.validation_data), VALIDATION_FRAMES)
        if count == 0:
            return {}
        generator = torch.Generator().manual_seed(self.params.seed)
        indices = torch.randperm(len(self.validation_data), generator=generator)[:count]
        sums: dict[str, float] = {}
        with torch.no_grad(), in_place_of(self.model, self.average):  # not the distributed module: others take no part
            for part in torch.split(indices, self.params.batch // self.world):
                losses = self._loss(self.objective, self.validation_data.sample(part), generator, False)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(part) / count
        return {f"validation_{name}": value for name, value in sums.items()}

    def save(self, folder: Path) -> None:
        """Writes the training state into an existing folder."""
        save_state(folder, self.step, self.objective, self.average, self.optimizer)

    def restore(self, folder: Path) -> None:
        """Continues from a state written by `save`."""
        self.step = load_state(folder, self.objective, self.average, self.optimizer)

    def export(self, folder: Path) -> None:
        """Writes the policy's four files, with the averaged weights, into an existing folder."""
        write_policy_files(self.embodiment, self.normalisation, self.model, folder, self.average)


def run_steps(
    trainer: Trainer,
    *,
    on_metrics: Callable[[int, dict[str, float]], None],
    keep: Callable[[], None],
    on_step: Callable[[dict[str, float] | None], None] = lambda metrics: None,
) -> None:
    """Does the steps that are left of a training; every worker of it calls this, wherever it runs.

    Args:
        trainer: New, or restored from a checkpoint.
        on_metrics: Called on the first worker alone, with step and means, every `REPORT_STEPS` steps and after the last
            one. At a checkpoint the validation losses are among the means.
        keep: Called on every worker, every `checkpoint_steps` steps and after the last one: writes the state.
        on_step: Called on every worker after each step, with the means where the step has some.

    Raises:
        PosaError: The gradients are no longer finite.
    """
    while not trainer.done:
        metrics = trainer.advance()
        kept = trainer.done or trainer.step % trainer.params.checkpoint_steps == 0
        if metrics is not None and trainer.rank == 0:
            if kept:
                metrics |= trainer.validate()
            on_metrics(trainer.step, metrics)
        on_step(metrics)
        if kept:
            keep()


def train(
    data: Path,
    params: Params,
    out: Path,
    *,
    on_metrics: Callable[[int, dict[str, float]], None] | None = None,
    start: Start | None = None,
) -> Path:
    """Trains in this process, on its GPU if it has one, and resumes where an earlier call was stopped.

    Args:
        data: Prepared data folder.
        params: All parameters.
        out: Folder of this training: checkpoints, and at the end the policy's files in `policy/`.
        on_metrics: Called with step and means every `REPORT_STEPS` steps.
        start: The policy that it starts from; random weights if None.

    Returns:
        The folder with model.safetensors, config.json, normalisation.json and embodiment.json.

    Raises:
        BadInput: Data and parameters do not fit each other, or the policy to start from does not fit them.
    """
    final = out / "policy"
    if final.exists():
        return final
    torch.set_num_threads(params.train.workers * params.train.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if start is not None:
        say_start(start, data, params)
    trainer = Trainer(data, params, start=None if start is None else start.folder, device=device)
    checkpoints = out / "checkpoints"
    earlier = sorted(checkpoints.glob("step-*"))
    if earlier:
        trainer.restore(earlier[-1])

    def keep() -> None:
        if trainer.done:
            return
        with new_folder(checkpoints / f"step-{trainer.step:08d}") as folder:
            trainer.save(folder)
        for old in sorted(checkpoints.glob("step-*"))[:-2]:
            shutil.rmtree(old)

    if start is None:
        say_anchors(data, params)
    say_of_chunks(data, params)
    forecast = Forecast(params.train)

    def news(step: int, metrics: dict[str, float]) -> None:
        forecast.add(step, metrics)
        if on_metrics is not None:
            on_metrics(step, metrics)

    with progress("train", params.train.steps, done=trainer.step, unit="step") as advance:
        run_steps(
            trainer,
            on_step=lambda metrics: advance(1, f"loss {metrics['loss']:.3f}" if metrics else ""),
            on_metrics=news,
            keep=keep,
        )
    with new_folder(final) as folder:
        trainer.export(folder)
    return final
