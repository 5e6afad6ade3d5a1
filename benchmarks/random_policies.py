"""Policies with random weights, in the real sizes, and inputs for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.model.build import Prepared, build_model, new_model
from posa_vla.model.config import ModelConfig
from posa_vla.model.losses import Targets
from posa_vla.model.normalisation import Normalisation, Statistics
from posa_vla.model.posa import GRIPPER_WORD, PosA
from posa_vla.model.posa_policy import PosAPolicy
from posa_vla.model.tokenizer import train_tokenizer
from posa_vla.params import Params
from posa_vla.policy.policy import ActionChunk, Observation

INSTRUCTIONS = ("pick up the red cube", "pick up the blue ball")


class NaivePolicy(PosAPolicy):
    """The same policy with nothing kept from one flow step to the next: images, state and texts are encoded anew."""

    @torch.inference_mode()
    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        """Chooses the next actions by Euler's method; neither a committed prefix nor attention."""
        for observation in batch:
            self._check(observation)
        device, steps = self._model.theta.device, self.sampled_steps
        x = self.start_noise * self._noise(len(batch), seed).to(device)
        for step in range(steps):
            images = {r: torch.from_numpy(np.stack([o.images[r] for o in batch])) for r in self.config.cameras}
            state = torch.from_numpy(np.stack([o.state for o in batch])).to(device)
            seen = {role: image.to(device) for role, image in images.items()}
            context = self._model.encode(seen, self._state(state), [o.instruction for o in batch]).context
            x = x + self._model.flow(x, torch.full((len(batch),), step / steps, device=device), context) / steps
        actions = np.clip(self._action.back(x, state).cpu().numpy(), *self._limits).astype(np.float32)
        return ActionChunk(actions, self._frame)


def _statistics(channels: Sequence[Channel]) -> Statistics:
    """A spread that keeps most actions of a standard normal inside of the limits."""
    low, high = (np.array(side) for side in zip(*(channel.limits for channel in channels), strict=True))
    middle, spread = (low + high) / 2, (high - low) / 6
    return Statistics(mean=middle.tolist(), std=spread.tolist(), q01=low.tolist(), q99=high.tolist())


def _architectures() -> dict[str, dict[str, Any]]:
    """CLIP ViT-B/16 and DINOv2-base, as their published `config.json` files say."""
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig, Dinov2Config

    text = CLIPTextConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, vocab_size=49408
    )
    vision = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=16,
    )
    clip: Any = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=512)
    dino: Any = Dinov2Config(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, mlp_ratio=4, image_size=518, patch_size=14
    )
    return {"clip": clip.to_dict(), "dino": dino.to_dict()}


def make_model(params: Params, embodiment: Embodiment) -> tuple[PosA, Normalisation]:
    """A network with random weights, none of them zero, and units that fit the embodiment's limits."""
    units = Normalisation(state=_statistics(embodiment.state), action=_statistics(embodiment.action))
    cameras, size = list(embodiment.cameras), params.prepare.image_size
    if params.model.encoders.kind == "scratch":
        model = new_model(Prepared(embodiment, cameras, size, list(INSTRUCTIONS), units), params, 0)
    else:
        tokenizer = train_tokenizer([*INSTRUCTIONS, GRIPPER_WORD])
        config = ModelConfig(
            cameras=cameras,
            image_size=size,
            state_dim=len(embodiment.state),
            action_dim=len(embodiment.action),
            sigma_task=params.prepare.sigma_task,
            sigma_end=params.prepare.sigma_end,
            params=params.model,
            tokens=tokenizer.size,
            pretrained=_architectures(),
        )
        torch.manual_seed(0)
        model = build_model(config, tokenizer)
        model.vision.requires_grad_(False)
        model.language.requires_grad_(False)
        model.vision.project.requires_grad_(True)  # the projections are the policy's own
        model.language.project.requires_grad_(True)
    with torch.no_grad():  # a fresh head is zero, and all its loops would agree on that
        for parameter in model.flow.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model, units


def observations(policy: PosAPolicy, count: int) -> list[Observation]:
    """Noise of the policy's shape."""
    rng, size = np.random.default_rng(0), policy.config.image_size
    low, high = zip(*(channel.limits for channel in policy.embodiment.state), strict=True)
    return [
        Observation(
            {role: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for role in policy.config.cameras},
            rng.uniform(low, high).astype(np.float32),
            INSTRUCTIONS[i % len(INSTRUCTIONS)],
        )
        for i in range(count)
    ]


def samples(model: PosA, count: int, device: torch.device) -> tuple[dict[str, Tensor], Tensor, list[str], Targets]:
    """A synthetic batch as `Objective` takes it."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    shape = (count, config.image_size, config.image_size, 3)
    images = {r: torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for r in config.cameras}
    chunk = torch.randn(count, config.params.horizon, config.chunk_dim, generator=generator)
    points = {r: (torch.rand(count, 2, 2, generator=generator) * config.image_size).to(device) for r in config.cameras}
    targets = Targets(
        action=chunk.to(device),
        action_valid=torch.ones(chunk.shape[:2], dtype=torch.bool, device=device),
        captions=(torch.arange(count) % len(INSTRUCTIONS)).to(device),
        anchor_points=points,
        anchor_valid={role: torch.ones(count, 2, dtype=torch.bool, device=device) for role in config.cameras},
    )
    state = torch.randn(count, config.state_dim, generator=generator)
    texts = [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(count)]
    return {role: image.to(device) for role, image in images.items()}, state.to(device), texts, targets
