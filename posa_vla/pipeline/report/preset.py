"""Which preset parameters come from, in words, and the run's name after it."""

from __future__ import annotations

from posa_vla.params import Params
from posa_vla.params_file import flat, overlaid, shipped_presets
from posa_vla.yaml_file import read_yaml

# Parts of the parameters that a preset decides; a target and its gate are no part of it.
_PARTS = ("collect", "prepare", "model", "train", "evaluate")
# Differences that are named one by one.
_NAMED = 3


def preset_of(params: Params) -> str:
    """The preset that parameters are nearest to, and what differs from it.

    Parameters keep no name of a preset, for the values alone decide what is computed.
    """
    values = flat(params.model_dump(mode="json", include=set(_PARTS)))
    base, nearest, differing = Params(target=params.target, targets=params.targets), "", values
    for name, path in shipped_presets().items():
        overlay = {part: value for part, value in read_yaml(path).items() if part in _PARTS}
        preset = flat(overlaid(base, overlay, f"preset {name}").model_dump(mode="json", include=set(_PARTS)))
        other = {key: value for key, value in values.items() if preset.get(key) != value}
        if len(other) < len(differing):
            nearest, differing = name, other
    if not nearest:
        return "of its own"
    if len(differing) > _NAMED:
        return f"{nearest} with {len(differing)} parameters changed"
    return ", ".join([nearest, *(f"{key} {value}" for key, value in sorted(differing.items()))])


def run_name(preset: str, data_name: str, started: str) -> str:
    """A run's name: what it was trained with, on which data, and when."""
    return f"preset {preset} on {data_name}, {started}"
