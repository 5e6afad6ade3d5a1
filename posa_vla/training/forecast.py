"""What a training says before it is over: what its data cannot teach, and how long it will take on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.shards.manifest import read_manifest, untaught
from posa_vla.params import TrainParams


def say_untaught(data: Path) -> None:
    """Says of prepared data that they do not teach the anchors, where that is so."""
    said = untaught(read_manifest(data))
    if said:
        say(f"training: {said}")


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
