"""The Episode contract: what is wrong with an episode has a type, not only words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import make_episode

from posa_vla.episodes.episode import NotFinite
from posa_vla.errors import BadInput


def test_a_value_that_is_no_number_is_told_apart_from_an_array_that_does_not_fit() -> None:
    episode = make_episode(np.random.default_rng(0), frames=3, size=8)
    gap = episode.state.copy()
    gap[1] = np.inf
    with pytest.raises(NotFinite, match="state is not finite at frame 1"):
        replace(episode, state=gap).check()
    track = replace(episode.cameras["head"], images=np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(BadInput, match=r"cameras\[not finite\]") as caught:
        replace(episode, cameras={"not finite": track}).check()
    assert not isinstance(caught.value, NotFinite)
