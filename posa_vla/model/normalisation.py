"""Statistics that turn physical units into the model's and back; they travel with the weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from posa_vla.schema import Closed


def _empty(value: object) -> bool:
    return value == []


def _absent(value: object) -> bool:
    return value is None


class Statistics(Closed):
    """Per-channel statistics of one vector over the training frames, physical units.

    `floor` is the least standard deviation that a channel is divided by (from version 2 of `Normalisation` on).
    """

    mean: list[float]
    std: list[float]
    q01: list[float]
    q99: list[float]
    floor: list[float] = Field(default_factory=list, exclude_if=_empty)


class Normalisation(Closed):
    """`normalisation.json` of prepared data and of bundles.

    Version 1, which did not name its version, has neither floors nor a clip: a channel whose spread is at most 1e-6 is
    divided by 1, and a state may be any number of standard deviations long. Who was trained with it keeps it.

    Attributes:
        state: Of the state.
        action: Of what the network predicts.
        state_clip: The most standard deviations that a channel of the state is away from its mean for the network.
    """

    schema_version: Literal[1, 2] = 1
    state: Statistics
    action: Statistics
    state_clip: float | None = Field(default=None, gt=0, exclude_if=_absent)

    @model_validator(mode="after")
    def _as_its_version(self) -> Normalisation:
        floors = {bool(self.state.floor), bool(self.action.floor), self.state_clip is not None}
        if floors != {self.schema_version == 2}:
            raise ValueError("floor of state and action, and state_clip: expected all in version 2, and none before")
        return self


class Standardise(nn.Module):
    """(x - mean) / std, and back; no channel is divided by less than its floor."""

    def __init__(self, statistics: Statistics, clip: float | None = None) -> None:
        """Sets up both directions.

        Args:
            statistics: Of the vector.
            clip: Largest magnitude of what `forward` gives; any if None.
        """
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.tensor(statistics.mean), False)
        std = torch.tensor(statistics.std)
        # Version 1: a channel that never moved in the data is left at zero.
        least = torch.tensor(statistics.floor) if statistics.floor else torch.where(std > 1e-6, std, 1.0)
        self.register_buffer("std", torch.maximum(std, least), False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales physical units to the model's."""
        scaled = (x - self.get_buffer("mean")) / self.get_buffer("std")
        return scaled if self.clip is None else scaled.clamp(-self.clip, self.clip)

    def back(self, x: Tensor) -> Tensor:
        """Scales the model's units back to physical ones."""
        return x * self.get_buffer("std") + self.get_buffer("mean")
