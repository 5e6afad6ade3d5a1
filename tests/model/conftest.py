"""A small PosA-VLA and a batch for it."""

from __future__ import annotations

import pytest
import torch

from posa_vla.model.config import ModelConfig
from posa_vla.model.losses import Targets
from posa_vla.model.posa import PosA
from posa_vla.params import ModelParams

CAMERAS = ["head", "wrist"]


@pytest.fixture
def model() -> PosA:
    torch.manual_seed(0)
    params = ModelParams(width=32, flow_layers=2, flow_width=32, flow_steps=8)
    config = ModelConfig(
        cameras=CAMERAS, image_size=64, state_dim=5, action_dim=3, sigma_task=0.1, sigma_end=1 / 15, params=params
    )
    return PosA(config)


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
