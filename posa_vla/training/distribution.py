"""How the workers of a training share its gradients."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class Distribute(Protocol):
    """Wraps a module so that gradients are averaged over the workers, as torch's `DistributedDataParallel` does."""

    def __call__(self, module: nn.Module, *, find_unused_parameters: bool) -> nn.Module:
        """Wraps the module; where parameters may get no gradient, that is said."""


def alone(module: nn.Module, *, find_unused_parameters: bool) -> nn.Module:
    """One worker has nobody to share with."""
    return module
