"""The least spread that a channel is scaled by: one that hardly moves in training may stand elsewhere later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import UNSTATED, Channel, Embodiment

# Shares: of a channel's range, and of the largest standard deviation among the vector's channels of its unit. The
# second one keeps small steps, of which a whole vector may consist, from being taken for standing still, and the third
# bounds that.
_OF_RANGE, _OF_LARGEST, _LEAST = 0.01, 0.15, 1e-4
# What a channel of a unit may run through, where nobody has declared its limits.
_RANGES = {"rad": math.pi, "deg": 180.0, "m": 1.0, "cm": 100.0, "mm": 1000.0, "%": 100.0, "1": 1.0}
# Numbers of an unstated unit that stay within it are taken for rad, shares or metres; others for degrees or percent.
_SMALL = 2 * math.pi


def _unit(channel: Channel, largest: float) -> str:
    if channel.unit in _RANGES:
        return channel.unit
    if channel.unit != UNSTATED and channel.low is not None:
        return channel.unit
    return "rad" if largest <= _SMALL else "deg"


def least_stds(channels: Sequence[Channel], std: NDArray[np.float64], largest: NDArray[np.float64]) -> list[float]:
    """The least standard deviation that each channel is divided by, in its unit.

    Args:
        channels: Of one vector; declared limits count, else what their unit usually runs through.
        std: (C,) standard deviations over the training frames.
        largest: (C,) largest magnitudes there.

    Returns:
        C values above 0.
    """
    units = [_unit(channel, float(most)) for channel, most in zip(channels, largest, strict=True)]
    floors = []
    for channel, unit in zip(channels, units, strict=True):
        low, high = channel.limits
        reach = high - low if math.isfinite(high - low) else _RANGES[unit]
        alike = [float(s) for s, other in zip(std, units, strict=True) if other == unit]
        # A channel that is alone with its unit says nothing of how small the vector's steps are.
        small = _OF_LARGEST * max(alike) if len(alike) > 1 else math.inf
        floors.append(max(min(_OF_RANGE * reach, small), _LEAST * reach))
    return floors


def still_channels(embodiment: Embodiment, normalisation: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the channels of `state` and `action` that hardly move: their spread is below the least one.

    Args:
        embodiment: Whose channels they are.
        normalisation: Content of `normalisation.json` of prepared data.
    """
    still = {}
    for name, channels in (("state", embodiment.state), ("action", embodiment.action)):
        statistics = normalisation[name]
        rows = zip(channels, statistics["std"], statistics.get("floor", []), strict=False)
        still[name] = [channel.name for channel, std, floor in rows if std < floor]
    return still


def still_in_words(still: Mapping[str, Sequence[str]], embodiment: Embodiment) -> str:
    """What `still_channels` found, in a sentence; empty where everything moves."""
    parts = []
    for name, channels in (("state", embodiment.state), ("action", embodiment.action)):
        if still[name]:
            parts.append(f"{len(still[name])} of {len(channels)} channels of the {name} ({', '.join(still[name])})")
    if not parts:
        return ""
    return f"{' and '.join(parts)} hardly move: they are scaled by a least spread, not by how little they moved"
