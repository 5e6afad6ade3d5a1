"""What a training says before it is over: what was settled of its anchors, and how long it will take here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.model.anchor_choice import choose_anchors
from posa_vla.params import Params, TrainParams


def say_anchors(data: Path, params: Params) -> None:
    """Says what is settled of the anchors on prepared data, where anything is, and that the data do not teach them."""
    words = choose_anchors(params, read_manifest(data)).words
    if words:
        say(f"training: {words}")


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
