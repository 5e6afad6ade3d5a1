"""What a training says before it is over: what was settled of its anchors, and how long it will take here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.model.anchor_choice import choose_anchors
from posa_vla.model.settled import settled
from posa_vla.params import Params, TrainParams

# A chunk is said to be short below so many seconds, and chunks to run past the end above such a share of them.
_SHORT, _MOST = 0.5, 0.5


def say_anchors(data: Path, params: Params) -> None:
    """Says what is settled of the anchors on prepared data, where anything is, and that the data do not teach them."""
    words = choose_anchors(params, read_manifest(data)).words
    if words:
        say(f"training: {words}")


def say_of_chunks(data: Path, params: Params) -> None:
    """Says of a policy's chunks what its data make of them, where that is little.

    Args:
        data: Prepared data.
        params: All parameters.
    """
    manifest = read_manifest(data)
    rate, horizon = manifest.embodiment.control_hz, settled(params, manifest).model.horizon
    seconds = horizon / rate
    if seconds < _SHORT:
        say(
            f"training: a chunk of {horizon} actions is {seconds:.2g} s at {rate:g} Hz, expected {_SHORT} s at least: "
            "a policy that looks so little ahead stands still where the demonstrations did. "
            "model.horizon_seconds=1 makes it a second"
        )
    beyond = PackedDataset(data, "train", horizon).beyond_the_end
    if beyond > _MOST:
        say(
            f"training: {beyond:.0%} of the chunks of {horizon} actions run past the end of their episode, where "
            f"nothing is learnt: these episodes are short. model.horizon_seconds={seconds / 2:.2g} halves the chunk"
        )


class Forecast:
    """Says once in each stage of a training how long it will take.

    The steps on the anchor loss alone are the cheaper ones, so that what is said there is the least that it will be. A
    stage's first row of metrics does not count: memory and kernels are made ready in its steps.
    """

    def __init__(self, params: TrainParams) -> None:
        self._steps = params.steps
        self._rows = {"anchor": 0, "full": 0}

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes a row of metrics, as `Trainer.advance` gives it."""
        full = "action" in metrics
        stage = "full" if full else "anchor"
        self._rows[stage] += 1
        if self._rows[stage] != 2 or step >= self._steps:
            return
        rate, arithmetic = metrics["steps_per_second"], "bf16" if metrics["bf16"] else "fp32"
        minutes = max(round((self._steps - step) / rate / 60), 1)
        least, what = ("about", "") if full else ("at least", " on the anchor loss alone")
        say(f"training: {least} {minutes} more min here ({rate:.1f} steps/s{what}, {arithmetic})")
