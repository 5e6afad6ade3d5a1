"""Which robot a dataset is of: two datasets that name none are two robots until somebody names them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from posa_vla.episodes.content import signals_digest
from posa_vla.episodes.foreign.dataset import SourceDataset
from posa_vla.episodes.foreign.mapping import FeatureMap, derived_embodiment, id_of
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.errors import BadInput
from posa_vla.files import sha256_bytes

# Names, as ids are made of them, that are written where nobody named the robot.
_NO_NAMES = {"", "unknown", "unnamed", "unspecified", "undefined", "none", "null", "nan", "n_a", "na", "tbd", "todo"}
_NO_NAMES |= {"default", "custom", "other", "generic", "robot", "robot_type", "robot_arm", "arm", "my_robot"}
# A robot's declaration is `<id>.yaml` beside these files, which are something else.
_OTHER_FILES = {"params", "dvc", "prefect", "docker-compose"}
# The longest id, and how much of a digest tells two robots apart.
_LONGEST, _DIGITS = 64, 8


def robot_of(source: SourceDataset, parts: Mapping[str, tuple[str, ...]]) -> str:
    """The id of a dataset's robot.

    It is made of the robot's name, and of a digest of the name where letters of it are lost in an id. A name that names
    nothing, or has no latin letter, gives an id that the first recording decides: the same dataset has it wherever it
    lies and whichever version it is converted to, and no other dataset has it.

    Args:
        source: The dataset.
        parts: The features of `state` and `action`.
    """
    called = _called(source)
    latin = id_of(called)
    if unnamed(source):
        # Without a recording nothing comes in, and the folder is all there is to go by.
        _, digest = first_recording(source, parts) or (0, _digest(source.folder.resolve().name))
        return f"{latin or 'robot'}_{digest[:_DIGITS]}"
    if len(latin) > _LONGEST or any(letter.isalnum() and not letter.isascii() for letter in called):
        return f"{latin[: _LONGEST - _DIGITS - 1]}_{_digest(called)[:_DIGITS]}"
    return f"{latin}_robot" if latin in _OTHER_FILES else latin


def unnamed(source: SourceDataset) -> bool:
    """Whether a dataset does not say of which robot it is; one that was exported from here does."""
    latin = id_of(source.robot)
    return source.posa is None and (latin in _NO_NAMES or not re.search("[a-z]", latin))


def _called(source: SourceDataset) -> str:
    return source.robot or ("" if source.posa is None else source.posa.embodiment.id)


def first_recording(source: SourceDataset, parts: Mapping[str, tuple[str, ...]]) -> tuple[int, str] | None:
    """Length, and digest of state and action, of the first episode that can be read; None where none can."""
    if not {"state", "action"} <= parts.keys():
        return None
    vectors = FeatureMap({part: parts[part] for part in ("state", "action")}, {}, [], [], {})
    try:
        reader = SourceReader(source, vectors, derived_embodiment(source, vectors))
    except BadInput:
        return None
    for where in source.episodes():
        try:
            table = reader.table(where)
            state, action = (reader.part(table, part, np.float32) for part in ("state", "action"))
        except (BadInput, *MALFORMED):
            continue
        return len(state), signals_digest(state, action)
    return None


def _digest(name: str) -> str:
    return sha256_bytes(name.strip().encode("utf-8", "replace"))
