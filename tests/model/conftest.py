"""A small PosA-VLA and a batch for it."""

from __future__ import annotations

import pytest
import torch
from small_models import CAMERAS, small_model

from posa_vla.model.losses import Targets
from posa_vla.model.posa import PosA


@pytest.fixture
def model() -> PosA:
    return small_model()


@pytest.fixture
def batch() -> tuple[dict[str, torch.Tensor], torch.Tensor, list[str], Targets]:
    generator = torch.Generator().manual_seed(1)
    size = 6
    images = {
        role: torch.randint(0, 256, (size, 64, 64, 3), dtype=torch.uint8, generator=generator) for role in CAMERAS
    }
    targets = Targets(
        action=torch.randn(size, 8, 3, generator=generator),
        action_valid=torch.ones(size, 8, dtype=torch.bool),
        captions=torch.tensor([0, 1, 0, 1, 0, 1]),
        anchor_points={role: torch.rand(size, 2, 2, generator=generator) * 64 for role in CAMERAS},
        anchor_valid={role: torch.ones(size, 2, dtype=torch.bool) for role in CAMERAS},
    )
    texts = ["pick up the red cube", "pick up the blue ball"] * 3
    return images, torch.randn(size, 5, generator=generator), texts, targets
