"""Moving average of the weights: what is validated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from posa_vla.model.build import trained_state


def follow(average: Mapping[str, Tensor], model: nn.Module, step: int, ema: float) -> None:
    """Moves an exponential average towards a model's trained weights; it follows faster while training is young.

    Args:
        average: Name -> averaged weight, changed in place.
        model: The model as it is after a step.
        step: Steps done.
        ema: The average's decay.
    """
    decay = min(ema, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, value in trained_state(model).items():
            average[name].lerp_(value, 1 - decay)


@contextmanager
def in_place_of(model: nn.Module, average: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts averaged weights in the place of a model's for a while."""
    trained = trained_state(model)
    with torch.no_grad():
        kept = {name: value.clone() for name, value in trained.items()}
        try:
            for name, value in trained.items():
                value.copy_(average[name])
            yield
        finally:
            for name, value in trained.items():
                value.copy_(kept[name])
