"""Whether a foreign dataset fits what is declared of it, before any is taken in; and what an episode's columns say.

A mistake of the person who declares (the wrong embodiment, mapping or calibration) shows in every episode: it is one
message, and nothing is stored. What is wrong with single episodes is judged when they are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pyarrow as pa

from posa_vla.console import say
from posa_vla.episodes.calibration import CameraCalibration, calibrate
from posa_vla.episodes.content import signals_digest
from posa_vla.episodes.embodiment import Channel
from posa_vla.episodes.foreign.channels import NUMBERED, part_names, said_names
from posa_vla.episodes.foreign.columns import vector
from posa_vla.episodes.foreign.dataset import SourceEpisode
from posa_vla.episodes.foreign.gripper_ends import exchanged_ends
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.lerobot.layout import NUMBERS, WIDER
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.errors import BadInput

# Episodes that are looked at until one fits.
_LOOKED_AT = 5


def require_fit(reader: SourceReader) -> SourceReader:
    """Stops where no episode can fit what is declared.

    Returns:
        The reader, of whose dataset some episode fits.

    Raises:
        BadInput: A mapped feature is no number or has another width than declared, channels have other names, images
            another shape than those that were calibrated, or the joints are not those of the declared chain; the
            calibration's stretches are another dataset's episodes.
    """
    _require_numbers(reader)
    _require_widths(reader)
    for part, channels in (("state", reader.embodiment.state), ("action", reader.embodiment.action)):
        _require_names(reader, part, channels)
    _require_shapes(reader)
    _require_its_recordings(reader)
    _require_joints(reader)
    return reader


def _require_numbers(reader: SourceReader) -> None:
    for part, features in reader.features.parts.items():
        for feature in features:
            dtype = reader.source.features[feature]["dtype"]
            if dtype in {"image", "video", "string"}:
                numeric = [name for name, f in reader.source.features.items() if f["dtype"] in {*NUMBERS, *WIDER}]
                raise BadInput(
                    f"{feature} is {dtype}, expected numbers for {part}: --map may name as {part} one or several of "
                    f"{', '.join(sorted(numeric)) or 'none, this dataset has no numbers'}"
                )


def _samples(reader: SourceReader, first: int = 0, end: int | None = None) -> Iterator[tuple[SourceEpisode, pa.Table]]:
    """A few episodes whose tables can be read, of those numbered from `first` to before `end`."""
    among = [w for w in reader.source.episodes() if first <= w.number and (end is None or w.number < end)]

    def readable() -> Iterator[tuple[SourceEpisode, pa.Table]]:
        for where in among[: 4 * _LOOKED_AT]:
            try:
                yield where, reader.table(where)
            except (BadInput, *MALFORMED):
                continue  # each episode is judged when it is read

    return itertools.islice(readable(), _LOOKED_AT)


def _require_widths(reader: SourceReader) -> None:
    ends = len(reader.embodiment.end_effectors) or 1
    declared = {
        "state": len(reader.embodiment.state),
        "action": len(reader.embodiment.action),
        "end_effector": 7 * ends,
        "gripper": ends,
    }
    # The widths of each part's features, as episodes have them.
    seen: dict[str, set[tuple[int, ...]]] = {}
    for _, table in _samples(reader):
        for part, features in reader.features.parts.items():
            try:
                widths = tuple(vector(table, feature, np.float64).shape[1] for feature in features)
            except BadInput:
                continue
            seen.setdefault(part, set()).add(widths)
    for part, found in seen.items():
        if declared[part] in {sum(widths) for widths in found}:
            continue
        named, widths = " and ".join(reader.features.parts[part]), min(found)
        if part in {"state", "action"}:
            channels = reader.embodiment.state if part == "state" else reader.embodiment.action
            names = part_names(reader.source, reader.features.parts[part], widths)
            raise BadInput(
                f"{named} has {sum(widths)} channels ({', '.join(names)}), embodiment "
                f"{reader.embodiment.id} declares {len(channels)} ({', '.join(c.name for c in channels)}): correct the "
                f"embodiment file, or say with --map which features are the {part}, in order"
            )
        what = "x, y, z (m) and a quaternion (w, x, y, z)" if part == "end_effector" else "one opening"
        what += f" for each of {', '.join(reader.embodiment.end_effectors)}" if ends > 1 else ""
        raise BadInput(
            f"{named} has {sum(widths)} channels, expected {declared[part]} for {part}: {what}; map other features "
            "(--map), or rename this one in the dataset"
        )


def _require_names(reader: SourceReader, part: str, channels: list[Channel]) -> None:
    """Compares names where both sides give some: the same channels in another order would be learnt as they are not."""
    features = reader.features.parts[part]
    widths = _widths(reader, part, len(channels))
    if widths is None:
        return
    declared = [channel.name for channel in channels]
    found, start = part_names(reader.source, features, widths), 0
    for feature, width in zip(features, widths, strict=True):
        mine, theirs = found[start : start + width], declared[start : start + width]
        start += width
        # A feature of one number in a list of them is named by its own name.
        said = said_names(reader.source.features[feature], width) or (width == 1 and len(features) > 1)
        if said and mine != theirs and not any(NUMBERED.fullmatch(name) for name in theirs):
            raise BadInput(
                f"{' and '.join(features)} has the channels {', '.join(found)}, embodiment {reader.embodiment.id} "
                f"declares {', '.join(declared)}: give the embodiment file the dataset's names in the dataset's order, "
                "or, if this is another robot, a file of its own (--embodiment FILE) with another id"
            )


def _widths(reader: SourceReader, part: str, total: int) -> list[int] | None:
    """How many channels each feature of a part has, or None where no episode can be read."""
    features = reader.features.parts[part]
    if len(features) == 1:
        return [total]
    for _, table in _samples(reader):
        try:
            widths = [vector(table, feature, np.float64).shape[1] for feature in features]
        except BadInput:
            continue
        if sum(widths) == total:
            return widths
    return None


def _require_shapes(reader: SourceReader) -> None:
    """Compares pictures with what was calibrated."""
    if reader.calibration is None:
        return
    for role, camera in reader.calibration.cameras.items():
        if role not in reader.features.cameras:
            continue  # this dataset lacks it
        starts = [0, *(later.from_episode for later in camera.later)]
        for first, end in zip(starts, [*starts[1:], None], strict=True):
            unfit = _unfit_shape(reader, role, camera.at(first), first, end)
            if unfit:
                since = f" from episode {first} on" if first else ""
                raise BadInput(f"camera {role}{since}: {unfit}; give the calibration of these images")


def _unfit_shape(reader: SourceReader, role: str, camera: CameraCalibration, first: int, end: int | None) -> str:
    """Why no picture of a stretch of episodes is as calibrated; empty where one is, or none can be read."""
    unfit = ""
    for where, table in _samples(reader, first, end):
        try:
            images = reader.images(reader.features.cameras[role], where, len(table))
        except (BadInput, *MALFORMED):
            continue
        try:
            calibrate(images, camera, None)
        except BadInput as error:
            unfit = str(error)
        else:
            return ""
    return unfit


def recordings_of(reader: SourceReader) -> dict[int, str]:
    """Number of each episode whose table can be read -> digest of its state and action: what it is known by."""
    found = {}
    for where in reader.source.episodes():
        with suppress(BadInput, *MALFORMED):  # each episode is judged when it is read
            table = reader.table(where)
            parts = (reader.part(table, part, np.float32) for part in ("state", "action"))
            found[where.number] = signals_digest(*parts)
    return found


def _require_its_recordings(reader: SourceReader) -> None:
    """Stops where a calibration names episodes by their numbers, and the dataset has others under them."""
    calibration = reader.calibration
    if calibration is None or not calibration.moves:
        return
    if not calibration.episodes:
        say(
            "the calibration says from which episode on a camera stands elsewhere, and not which dataset's episodes "
            "these are: see that this is the one (`posa data calibrate` writes it down)"
        )
        return
    here, wrong = recordings_of(reader), []
    numbers = {where.number for where in reader.source.episodes()}
    for number, digest in calibration.episodes.items():
        if number not in numbers or here.get(number, digest) != digest:
            wrong.append(number)
    if wrong:
        what = "is another recording" if wrong[0] in numbers else "is not there"
        raise BadInput(
            "the calibration says at which episodes a camera was moved, by the numbers of the dataset it was found "
            f"on. This is another one, or in another order: episode {wrong[0]} {what} (of {len(calibration.episodes)} "
            f"episodes, {len(wrong)} differ). Find this dataset's cameras (posa data calibrate), or map state and "
            "action as they were mapped then"
        )


def _require_joints(reader: SourceReader) -> None:
    """Compares recorded joints with the limits of the declared chain, and says where a gripper is the wrong way."""
    states, actions = [], []
    for _, table in _samples(reader):
        with suppress(BadInput, *MALFORMED):  # each episode is judged when it is read
            state, action = (reader.part(table, part, np.float32) for part in ("state", "action"))
            widths = len(reader.embodiment.state), len(reader.embodiment.action)
            if (state.shape[1], action.shape[1]) == widths and np.isfinite(state).all() and np.isfinite(action).all():
                states.append(state)
                actions.append(action)
    unfit = reader.unfit_joints(np.concatenate(states)) if states else ""
    if unfit:
        raise BadInput(f"the joints do not fit embodiment {reader.embodiment.id}: {unfit}")
    for channel in exchanged_ends(reader.embodiment, states, actions):
        say(
            f"{channel} stops on its way to what is declared as open, and hardly ever on its way to closed: where it "
            f"holds things there, exchange `closed` and `open` of embodiment {reader.embodiment.id}'s gripper"
        )
