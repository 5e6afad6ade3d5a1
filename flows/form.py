"""What a run changes of `params.yaml`: the form that a person fills in, and the parameters that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from posa_vla.params import Params
from posa_vla.params_file import load_params
from posa_vla.schema import Closed

# The shipped presets (posa_vla/presets), spelled out so that a form offers them.
Preset = Literal["demo", "tiny", "small", "paper"]


class Changes(Closed):
    """Single parameters that differ from `params.yaml` and the preset; an empty field changes nothing.

    Attributes:
        settings: As on the command line: `KEY=VALUE`, the key dotted.
    """

    demonstrations: int | None = Field(
        default=None, gt=0, title="Demonstrations", description="Episodes of the scripted expert (collect.episodes)."
    )
    training_steps: int | None = Field(
        default=None, gt=0, title="Training steps", description="Optimiser steps (train.steps)."
    )
    training_seed: int | None = Field(
        default=None, ge=0, title="Training seed", description="Another seed trains another candidate (train.seed)."
    )
    evaluation_episodes: int | None = Field(
        default=None, gt=0, title="Evaluation episodes", description="Unseen scenes (evaluate.episodes)."
    )
    settings: list[str] = Field(
        default_factory=list,
        title="Other parameters",
        description="KEY=VALUE each, for example train.learning_rate=0.0005; keys as in params.yaml.",
    )

    def as_settings(self) -> list[str]:
        """All of them as `KEY=VALUE`."""
        fields = {
            "collect.episodes": self.demonstrations,
            "train.steps": self.training_steps,
            "train.seed": self.training_seed,
            "evaluate.episodes": self.evaluation_episodes,
        }
        return [f"{key}={value}" for key, value in fields.items() if value is not None] + self.settings


NO_CHANGES = Changes()


def resolve(preset: str | None, target: str | None, changes: Changes, params_file: str) -> Params:
    """The parameters of a run.

    Raises:
        BadInput: A file is missing, a key or target is unknown, a value does not fit.
    """
    chosen = [] if not target else [f"target={json.dumps(target)}"]
    return load_params(Path(params_file), preset, [*chosen, *changes.as_settings()])
