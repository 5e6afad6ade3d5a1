"""How fast this machine trains, measured."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from posa_vla.params import Params
from posa_vla.training.loop import Trainer

# Steps that are timed, and samples of each; one step before them makes memory and kernels ready.
_STEPS, _BATCH = 2, 16


def samples_per_second(data: Path, params: Params) -> float:
    """Samples a second of the full loss on prepared data, by a few steps of a training that is thrown away.

    One worker's share is measured, and counted once for each: workers are processes of their own.
    """
    train = params.train.model_copy(update={"anchor_only_steps": 0, "steps": _STEPS + 1, "batch": _BATCH})
    before = torch.get_num_threads()
    torch.set_num_threads(train.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(data, params.model_copy(update={"train": train}), device=device)
    try:
        trainer.advance()
        start = time.perf_counter()
        for _ in range(_STEPS):
            trainer.advance()
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(before)
    return train.workers * _STEPS * _BATCH / seconds
