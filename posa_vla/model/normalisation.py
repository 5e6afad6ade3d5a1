"""Statistics that turn physical units into the model's and back; they travel with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posa_vla.schema import Closed


class Statistics(Closed):
    """Per-channel statistics of one vector over the training frames, physical units."""

    mean: list[float]
    std: list[float]
    q01: list[float]
    q99: list[float]


class Normalisation(Closed):
    """`normalisation.json` of prepared data and of bundles."""

    state: Statistics
    action: Statistics


class Standardise(nn.Module):
    """(x - mean) / std, and back; a channel that never moved in the data is left at zero."""

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean), False)
        std = torch.tensor(statistics.std)
        self.register_buffer("std", torch.where(std > 1e-6, std, torch.ones_like(std)), False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales physical units to the model's."""
        return (x - self.get_buffer("mean")) / self.get_buffer("std")

    def back(self, x: Tensor) -> Tensor:
        """Scales the model's units back to physical ones."""
        return x * self.get_buffer("std") + self.get_buffer("mean")
