"""Which frames of an episode are learnt from: at the control rate, and without idle stretches at both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.errors import BadInput
from posa_vla.params import PrepareParams

# A channel has moved when it is away from where it stood by this share of its range in the episode; channels that run
# through less than `_QUIET` of what the busiest one of their unit does are noise.
_MOVED, _QUIET = 0.02, 0.15
# What is left before the first movement and after the last one (s).
_MARGIN = 0.2


@dataclass(frozen=True)
class Taken:
    """Frames of an episode.

    Attributes:
        rows: int64 (N,), the frames, ascending.
        action: float32 (N, A), what was asked for over each frame's control step.
        trimmed: Frames at the ends that were idle.
    """

    rows: NDArray[np.int64]
    action: NDArray[np.float32]
    trimmed: int


def whole_ratio(recorded: float, control: float) -> int | None:
    """How many recorded frames a control step has; None where that is no whole number."""
    ratio = round(recorded / control)
    return ratio if ratio >= 1 and abs(recorded - ratio * control) < 1e-6 * recorded else None


def require_ratio(recorded: float, control: float, where: str) -> int:
    """The same, for a recording that is to be resampled.

    Args:
        recorded: Frames/s of the recording.
        control: Control rate of its embodiment (Hz).
        where: What the recording is, for the message.

    Raises:
        BadInput: The rates do not divide.
    """
    ratio = whole_ratio(recorded, control)
    if ratio is None:
        rates = ", ".join(f"{recorded / k:g}" for k in (1, 2, 3, 4, 5))
        raise BadInput(
            f"{where} has {recorded:g} frames/s, which cannot be resampled to the control rate of {control:g} Hz: "
            f"expected a rate that divides it, for example {rates}"
        )
    return ratio


def taken_frames(episode: Episode, embodiment: Embodiment, params: PrepareParams) -> Taken:
    """The frames of an episode that are learnt from.

    Of the actions of a control step the last one counts, which says where the robot is to be at its end; deltas
    (channels that are named `delta_`) are added up.

    Raises:
        BadInput: The episode is to be resampled, and the rates do not divide.
    """
    first, end = _moving(episode, embodiment) if params.trim_idle else (0, len(episode))
    every = 1
    if params.resample:
        every = require_ratio(episode.fps, embodiment.control_hz, "an episode")
    rows = np.arange(first, end, every)
    if every == 1:
        return Taken(rows, episode.action[rows], len(episode) - (end - first))
    action = episode.action[np.minimum(rows + every - 1, end - 1)].copy()
    for column, channel in enumerate(embodiment.action):
        if channel.name.startswith("delta_"):
            action[:, column] = np.add.reduceat(episode.action[first:end, column], rows - first)
    return Taken(rows, action, len(episode) - (end - first))


def _moving(episode: Episode, embodiment: Embodiment) -> tuple[int, int]:
    """First frame of the stretch in which something moves, and the one after its last; all where nothing does."""
    moved = [
        _away(values, channels, start)
        for start in (0, -1)
        for values, channels in ((episode.state, embodiment.state), (episode.action, embodiment.action))
    ]
    begins, ends = moved[0] | moved[1], moved[2] | moved[3]
    if not begins.any() or not ends.any():
        return 0, len(episode)
    margin = round(_MARGIN * episode.fps)
    first = max(int(begins.argmax()) - margin, 0)
    end = min(len(episode) - int(ends[::-1].argmax()) + margin, len(episode))
    return first, max(end, first + 1)


def _away(values: NDArray[np.float32], channels: list[Channel], start: int) -> NDArray[np.bool_]:
    """(T,), whether any channel is away from where it stands at the start (0) or the end (-1)."""
    span = np.ptp(values, axis=0)
    busiest: dict[str, float] = {}
    for channel, reach in zip(channels, span, strict=True):
        busiest[channel.unit] = max(busiest.get(channel.unit, 0.0), float(reach))
    counts = np.array([s > _QUIET * busiest[c.unit] for c, s in zip(channels, span, strict=True)])
    away: NDArray[np.bool_] = (np.abs(values - values[start])[:, counts] > _MOVED * span[counts]).any(axis=1)
    return away
