"""Whether a foreign dataset fits what is declared of it, before any is taken in; and what an episode's columns say.

A mistake of the person who declares (the wrong embodiment, mapping or calibration) shows in every episode: it is one
message, and nothing is stored. What is wrong with single episodes is judged when they are read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from posa_vla.episodes.calibration import calibrate
from posa_vla.episodes.embodiment import Channel
from posa_vla.episodes.foreign.dataset import SourceEpisode
from posa_vla.episodes.foreign.mapping import channel_names
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.lerobot.layout import NUMBERS
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.errors import BadInput

# Episodes that are looked at until one fits.
_LOOKED_AT = 5
# Names that only number the channels say nothing of them.
_NUMBERED = re.compile(r"(channel_)?\d+")


def require_fit(reader: SourceReader) -> SourceReader:
    """Stops where no episode can fit what is declared.

    Returns:
        The reader, of whose dataset some episode fits.

    Raises:
        BadInput: A mapped feature is no number or has another width than declared, channels have other names, or images
            another shape than those that were calibrated.
    """
    _require_numbers(reader)
    _require_widths(reader)
    for part, channels in (("state", reader.embodiment.state), ("action", reader.embodiment.action)):
        _require_names(reader, reader.features.parts[part], channels)
    _require_shapes(reader)
    return reader


def _require_numbers(reader: SourceReader) -> None:
    for part, feature in reader.features.parts.items():
        dtype = reader.source.features[feature]["dtype"]
        if dtype in {"image", "video", "string"}:
            numeric = [name for name, f in reader.source.features.items() if f["dtype"] in NUMBERS]
            raise BadInput(
                f"{feature} is {dtype}, expected numbers for {part}: --map FEATURE={part} names one of "
                f"{', '.join(sorted(numeric)) or 'none, this dataset has no numbers'}"
            )


def _samples(reader: SourceReader) -> Iterator[tuple[SourceEpisode, pa.Table]]:
    """A few episodes whose tables can be read."""

    def readable() -> Iterator[tuple[SourceEpisode, pa.Table]]:
        for where in itertools.islice(reader.source.episodes(), 4 * _LOOKED_AT):
            try:
                yield where, reader.table(where)
            except (BadInput, *MALFORMED):
                continue  # each episode is judged when it is read

    return itertools.islice(readable(), _LOOKED_AT)


def _require_widths(reader: SourceReader) -> None:
    declared = {
        "state": len(reader.embodiment.state),
        "action": len(reader.embodiment.action),
        "end_effector": 7,
        "gripper": 1,
    }
    seen: dict[str, set[int]] = {}
    for _, table in _samples(reader):
        for part, feature in reader.features.parts.items():
            try:
                width = reader.vector(table, feature, np.float64).shape[1]
            except BadInput:
                continue
            seen.setdefault(part, set()).add(width)
    for part, widths in seen.items():
        feature = reader.features.parts[part]
        if declared[part] in widths:
            continue
        if part in {"state", "action"}:
            channels = reader.embodiment.state if part == "state" else reader.embodiment.action
            raise BadInput(
                f"{feature} has {min(widths)} channels ({', '.join(_names(reader, feature, min(widths)))}), embodiment "
                f"{reader.embodiment.id} declares {len(channels)} ({', '.join(c.name for c in channels)}): correct the "
                f"embodiment file, or say with --map FEATURE={part} which feature it is"
            )
        what = "x, y, z (m) and a quaternion (w, x, y, z)" if part == "end_effector" else "one opening"
        raise BadInput(
            f"{feature} has {min(widths)} channels, expected {declared[part]} for {part}: {what}; map another feature "
            "(--map), or rename this one in the dataset"
        )


def _names(reader: SourceReader, feature: str, width: int) -> list[str]:
    return channel_names(reader.source.features[feature], width)


def _require_names(reader: SourceReader, feature: str, channels: list[Channel]) -> None:
    """Compares names where both sides give some: the same channels in another order would be learnt as they are not."""
    declared = [channel.name for channel in channels]
    found = _names(reader, feature, len(declared))
    if found == declared or any(_NUMBERED.fullmatch(name) for name in (*found, *declared)):
        return
    raise BadInput(
        f"{feature} has the channels {', '.join(found)}, embodiment {reader.embodiment.id} declares "
        f"{', '.join(declared)}: give the embodiment file the dataset's names in the dataset's order, or, if this is "
        "another robot, a file of its own (--embodiment FILE) with another id"
    )


def _require_shapes(reader: SourceReader) -> None:
    """Compares pictures with what was calibrated."""
    if reader.calibration is None:
        return
    for role, camera in reader.calibration.cameras.items():
        unfit = ""
        for where, table in _samples(reader):
            try:
                images = reader.images(reader.features.cameras[role], where, len(table))
            except (BadInput, *MALFORMED):
                continue
            try:
                calibrate(images, camera, None)
                unfit = ""
                break
            except BadInput as error:
                unfit = str(error)
        if unfit:
            raise BadInput(f"camera {role}: {unfit}; give the calibration of these images")
