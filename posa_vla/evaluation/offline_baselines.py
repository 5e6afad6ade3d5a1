"""What a policy has to be better than offline: holding the pose, and replaying the nearest demonstration."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Channel
from posa_vla.evaluation.held_out import PackedEpisodes

Held = Literal["state", "last action", "zero"]
# A channel that hardly moves counts as one that moves by this share of the liveliest of its unit.
_LEAST = 0.05
# Frames that are compared with all demonstrations at once.
_AT_ONCE = 64


def scales(values: NDArray[np.float32], channels: list[Channel]) -> NDArray[np.float64]:
    """How much each channel moves: float64 (C,), its standard deviation, never far below the liveliest of its unit.

    Args:
        values: float32 (N, C), physical units.
        channels: Their declarations.
    """
    spread = values.astype(np.float64).std(axis=0)
    liveliest = {c.unit: max(s for d, s in zip(channels, spread, strict=True) if d.unit == c.unit) for c in channels}
    floors = np.array([_LEAST * liveliest[channel.unit] for channel in channels])
    out: NDArray[np.float64] = np.maximum(spread, floors)
    return np.where(out > 0, out, 1.0)


def _last_actions(episodes: PackedEpisodes, start: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 (N, A), the action before each frame; `start` at the first one of an episode."""
    last = np.concatenate([episodes.action[:1], episodes.action[:-1]])
    last[[first for first, _ in episodes.spans]] = start
    return last


class HoldPose:
    """Asks for the present pose at every step of the horizon.

    An action channel with the name and unit of a state channel is held where that is. Another one is held at zero, as
    is right where it asks for a change, or at the action before: whichever is nearer to the demonstrations.

    Attributes:
        held: How each action channel is held.
    """

    def __init__(self, demonstrations: PackedEpisodes, state: list[Channel], action: list[Channel]) -> None:
        names = [(channel.name, channel.unit) for channel in state]
        self._column = {c: names.index((a.name, a.unit)) for c, a in enumerate(action) if (a.name, a.unit) in names}
        self._start = demonstrations.action.astype(np.float64).mean(axis=0)
        last = _last_actions(demonstrations, self._start)
        moved = np.abs(demonstrations.action - last).mean(axis=0) < np.abs(demonstrations.action).mean(axis=0)
        self.held: list[Held] = [
            "state" if c in self._column else "last action" if moved[c] else "zero" for c in range(len(action))
        ]

    def chunks(self, episodes: PackedEpisodes, frames: NDArray[np.int64], horizon: int) -> NDArray[np.float32]:
        """float32 (N, H, A): what it asks for from frames of a split on."""
        rows = np.zeros((len(frames), episodes.action.shape[1]), np.float32)
        last = _last_actions(episodes, self._start)[frames]
        for c, how in enumerate(self.held):
            if how == "state":
                rows[:, c] = episodes.state[frames, self._column[c]]
            elif how == "last action":
                rows[:, c] = last[:, c]
        return np.repeat(rows[:, None], horizon, axis=1)


class NearestDemonstration:
    """Does what followed the training frame of the nearest state, among frames with the same words if there are any."""

    def __init__(self, demonstrations: PackedEpisodes, state: list[Channel]) -> None:
        self._demonstrations = demonstrations
        self._scale = scales(demonstrations.state, state)
        self._states = demonstrations.state / self._scale

    def chunks(self, episodes: PackedEpisodes, frames: NDArray[np.int64], horizon: int) -> NDArray[np.float32]:
        """float32 (N, H, A): what it asks for from frames of a split on."""
        nearest = np.zeros(len(frames), np.int64)
        for caption in np.unique(episodes.caption[frames]):
            mine = np.flatnonzero(episodes.caption[frames] == caption)
            among = np.flatnonzero(self._demonstrations.caption == caption)
            among = among if len(among) else np.arange(len(self._states))
            candidates = self._states[among]
            squares = (candidates**2).sum(axis=1)
            for begin in range(0, len(mine), _AT_ONCE):
                part = mine[begin : begin + _AT_ONCE]
                asked = episodes.state[frames[part]] / self._scale
                nearest[part] = among[(squares - 2 * asked @ candidates.T).argmin(axis=1)]
        return self._demonstrations.chunks(nearest, horizon)[0]
