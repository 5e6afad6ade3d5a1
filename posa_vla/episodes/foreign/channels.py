"""Names of a dataset's channels: what it calls the numbers of a vector, and of several vectors side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from posa_vla.episodes.foreign.dataset import SourceDataset

# Names that only number the channels say nothing of them.
NUMBERED = re.compile(r"(channel_)?\d+")


def channel_names(feature: dict[str, Any], count: int) -> list[str]:
    """Names of the channels of a vector feature, however nested; `channel_0` and so on where they do not fit."""

    def flat(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        return [name for item in value for name in flat(item)] if isinstance(value, list | tuple) else []

    names = flat(feature["names"])
    if len(names) == count and len(set(names)) == count and all(names):
        return names
    return [f"channel_{number}" for number in range(count)]


def said_names(feature: dict[str, Any], count: int) -> bool:
    """Whether a dataset gives the channels of a vector feature names that say something."""
    names = channel_names(feature, count)
    return not any(NUMBERED.fullmatch(name) for name in names)


def part_names(source: SourceDataset, features: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names of the channels of a part that is made of these features, all different.

    A feature of one number has its own name, less what all features of the part begin with; so have numbered channels.
    Names that several features have are told apart by the features' names.

    Args:
        source: The dataset.
        features: The features, in order.
        widths: How many channels each has.
    """
    if len(features) == 1:
        return channel_names(source.features[features[0]], widths[0])
    pieces = [re.split(r"[./]", feature) for feature in features]
    shared = 0
    while all(len(p) > shared + 1 for p in pieces) and len({p[shared] for p in pieces}) == 1:
        shared += 1
    own = [".".join(piece[shared:]) for piece in pieces]
    named = []
    for feature, name, width in zip(features, own, widths, strict=True):
        if said_names(source.features[feature], width):
            named.append(channel_names(source.features[feature], width))
        else:
            named.append([name] if width == 1 else [f"{name}_{number}" for number in range(width)])
    flat = [name for names in named for name in names]
    if len(set(flat)) < len(flat):
        flat = [f"{name}.{channel}" for name, names in zip(own, named, strict=True) for channel in names]
    return flat
