"""Prepared data of synthetic episodes, and an observation that fits them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from factories import make_embodiment, make_episode

from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.params import PrepareParams
from posa_vla.policy.policy import Observation

INSTRUCTIONS = ("pick up the red cube", "pick up the blue ball")


def packed(folder: Path, size: int = 32, episodes: int = 4) -> Path:
    """Packs `episodes` episodes with two cameras and two instructions."""
    rng = np.random.default_rng(0)
    made = [make_episode(rng, size=size, instruction=INSTRUCTIONS[i % 2]) for i in range(episodes)]
    pack_episodes(made, make_embodiment(), PrepareParams(image_size=size, validation_fraction=0), folder)
    return folder


def observation(size: int = 32, instruction: str = INSTRUCTIONS[0]) -> Observation:
    """Noise of the embodiment's shape."""
    rng = np.random.default_rng(1)
    images = {role: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for role in ("head", "wrist")}
    return Observation(images, rng.uniform(-0.1, 0.1, 3).astype(np.float32), instruction)
