"""Which preset parameters come from, in words, and the run's name after it."""

from __future__ import annotations

from typing import Any

from posa_vla.params import Params, shipped_presets
from posa_vla.schema import read_yaml
from posa_vla.tracking import flat


def _same(first: str, second: str) -> bool:
    """Whether two values in JSON are the same: a file has `1` where the parameters have `1.0`."""
    try:
        return float(first) == float(second)
    except ValueError:
        return first == second


def preset_of(params: Params) -> str:
    """The preset that parameters agree with best, and what differs from it.

    Parameters keep no name of a preset, for the values alone decide what is computed. A preset of which less than half
    the values are met is not named. What a preset says of a target's gate is no part of what is learned.
    """
    values: dict[str, Any] = flat(params.model_dump(mode="json"))
    best, differing, known = "", {}, 0
    for name, path in shipped_presets().items():
        wanted = {key: value for key, value in flat(read_yaml(path)).items() if not key.startswith("targets.")}
        other = {key: values.get(key, "") for key, value in wanted.items() if not _same(values.get(key, ""), value)}
        if 2 * len(other) <= len(wanted) and (not best or (-len(other), len(wanted)) > (-len(differing), known)):
            best, differing, known = name, other, len(wanted)
    if not best:
        return "of its own"
    return best + "".join(f", {key} {value}" for key, value in sorted(differing.items()))


def run_name(preset: str, data_name: str, started: str) -> str:
    """A run's name: what it was trained with, on which data, and when."""
    return f"preset {preset} on {data_name}, {started}"
