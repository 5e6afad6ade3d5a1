"""Recordings whose action is no action: the state of the next frame, which teaches nothing of where to go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.errors import BadInput

# An action is the next state where it is off by less than this share of what the state moves in a frame. A robot that
# follows its leader is off by several times that movement, a simulated one by half of it.
_SAME = 0.01
# Episodes that are looked at, and frames that an episode has to have for it.
_LOOKED_AT, _ENOUGH = 20, 16


def require_actions(episodes: Iterable[Episode], embodiment: Embodiment) -> None:
    """Stops where the actions are the states of the next frames: leader and follower were mixed up.

    Args:
        episodes: Recordings of one embodiment; the first of them are looked at.
        embodiment: Its action channels are compared with the state channels of the same name.

    Raises:
        BadInput: In every episode that was looked at, every channel that moves is a copy of the next state.
    """
    states = {channel.name: column for column, channel in enumerate(embodiment.state)}
    pairs = [(a, states[c.name]) for a, c in enumerate(embodiment.action) if c.name in states]
    correlations: list[float] = []
    for number, episode in enumerate(episodes):
        if number == _LOOKED_AT:
            break
        if len(episode) < _ENOUGH or not pairs:
            continue
        found = _copied(episode, pairs)
        if found is None:
            return
        correlations += found
    if correlations:
        raise BadInput(
            f"the actions of embodiment {embodiment.id} are the states of the next frames (they correlate by "
            f"{min(correlations):.4f} at least, in every channel that moves): were leader and follower mixed up? "
            "Record what the robot was told, or map that feature with --map FEATURE=action, and ingest again"
        )


def _copied(episode: Episode, pairs: list[tuple[int, int]]) -> list[float] | None:
    """Correlations of actions with the next states, of channels that move; None where an action is no copy."""
    asked: NDArray[np.float64] = episode.action[:-1, [a for a, _ in pairs]].astype(np.float64)
    state: NDArray[np.float64] = episode.state[:, [s for _, s in pairs]].astype(np.float64)
    steps = np.sqrt(np.mean(np.diff(state, axis=0) ** 2, axis=0))
    off = np.sqrt(np.mean((asked - state[1:]) ** 2, axis=0))
    moves = steps > 0
    if (off[moves] > _SAME * steps[moves]).any():
        return None
    return [float(np.corrcoef(asked[:, c], state[1:, c])[0, 1]) for c in np.flatnonzero(moves)]
