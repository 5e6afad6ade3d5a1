"""Rotations in the numbers of a recording: one rotation has many, and their difference is no error."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.rotation_rule import DEGREES
from posa_vla.model.rotations import from_matrix, to_matrix


def in_numbers_of(
    recorded: NDArray[np.float32], actions: NDArray[np.float32], embodiment: Embodiment
) -> NDArray[np.float64]:
    """Actions (..., A) whose rotations are written with the numbers nearest to the recorded ones (..., A), float64."""
    written = actions.astype(np.float64)
    names = [channel.name for channel in embodiment.action]
    for rule in embodiment.rotations:
        columns = [names.index(name) for name in rule.channels]
        unit = math.pi / 180 if embodiment.action[columns[0]].unit in DEGREES else 1.0
        asked, near = (torch.from_numpy(x[..., columns].astype(np.float64) * unit) for x in (written, recorded))
        written[..., columns] = from_matrix(to_matrix(asked, rule.form), rule.form, near).numpy() / unit
    return written
