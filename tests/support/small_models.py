"""A PosA-VLA small enough for a test, in any variant."""

from __future__ import annotations

from typing import Any

import torch

from posa_vla.model.build import build_model
from posa_vla.model.config import ModelConfig
from posa_vla.model.posa import PosA
from posa_vla.model.tokenizer import train_tokenizer
from posa_vla.params import ModelParams

CAMERAS = ["head", "wrist"]
INSTRUCTIONS = ["pick up the red cube", "pick up the blue ball", "gripper"]


def small_model(cameras: list[str] | None = None, **variant: Any) -> PosA:
    """64 px, state of 5, actions of 3; `variant` are fields of `ModelParams`."""
    torch.manual_seed(0)
    params = ModelParams(**{"width": 32, "flow_layers": 2, "flow_width": 32, "flow_steps": 8, **variant})
    tokenizer = train_tokenizer(INSTRUCTIONS)
    config = ModelConfig(
        cameras=cameras or CAMERAS,
        image_size=64,
        state_dim=5,
        action_dim=3,
        sigma_task=0.1,
        sigma_end=1 / 15,
        params=params,
        tokens=tokenizer.size,
    )
    return build_model(config, tokenizer)
