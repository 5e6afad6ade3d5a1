"""Low-rank updates of frozen linear layers (LoRA, Hu et al. 2021), as parametrisations of torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Layers that are updated: the attention's projections for queries and values, as CLIP and DINOv2 name them.
_NAMES = ("q_proj", "v_proj")


class LowRank(nn.Module):
    """W + B A, with B zero at first: an untrained update changes nothing."""

    def __init__(self, out_features: int, in_features: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, in_features) * in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        return weight + self.up @ self.down


def add_lora(module: nn.Module, rank: int) -> None:
    """Gives every attention projection for queries and values of a frozen module a trainable update."""
    named = list(module.named_modules())
    for layer in [m for name, m in named if isinstance(m, nn.Linear) and name.split(".")[-1] in _NAMES]:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.out_features, layer.in_features, rank))


def folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with the updates added to the weights for good, under the plain names again."""
    mark, end = ".parametrizations.weight.", "original"
    plain = {name: value for name, value in weights.items() if mark not in name}
    for name, value in weights.items():
        if name.endswith(mark + end):
            layer = name.removesuffix(mark + end)
            plain[f"{layer}.weight"] = value + weights[f"{layer}{mark}0.up"] @ weights[f"{layer}{mark}0.down"]
    return plain
