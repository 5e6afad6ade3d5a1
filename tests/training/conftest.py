"""Prepared data of a few synthetic episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from training_params import quick_params

from posa_vla.dataset.shards.pack import pack_episodes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ("red", "blue")
    episodes = [make_episode(rng, frames=10, instruction=f"pick up the {words[i % 2]} cube") for i in range(20)]
    pack_episodes(episodes, make_embodiment(), quick_params().prepare, tmp_path / "data")
    return tmp_path / "data"
