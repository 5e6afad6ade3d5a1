"""What a robot runs a release with: what the release fixes, and what the robot's own settings say or lower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from posa_vla.errors import BadInput
from posa_vla.policy.execution import Execution
from posa_vla.release.record import ReleaseRecord
from posa_vla.schema import Closed

# What a robot runs with where neither the release nor its own settings say: releases of record version 1.
_UNFIXED: Mapping[str, Any] = {"execute": 4, "committed": 0, "ensemble": None, "max_steps": 60, "image_size": 64}
NOT_FIXED = "not fixed by the release"


class RunSettings(Closed):
    """What a robot's own settings say of how a release is run; None for nothing.

    Each field's description is the comment above it in `robot.yaml`, and the help of its flag.
    """

    max_steps: int | None = Field(
        default=None,
        ge=1,
        description="Control steps of an episode: the release's, or fewer. The lower limit is applied.",
    )
    speed_limit: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Largest share of the embodiment's limits of motion. Below 1 for a robot that people stand beside.",
    )
    allow_upscale: bool = Field(
        default=False,
        description="Run although a camera shows less than the release was judged on; the reports say so.",
    )
    execute: int | None = Field(
        default=None,
        ge=1,
        description="Actions taken before the policy looks again, 4 by default. Like the next two, it is for releases "
        "of record version 1: one of version 2 says it itself, and another value here is refused.",
    )
    committed: int | None = Field(
        default=None,
        ge=0,
        description="Actions that go on while the policy thinks, 0 by default. For record version 1.",
    )
    ensemble: float | None = Field(
        default=None,
        ge=0,
        description="Look at every step, and average the chunks with weights exp(-x i). For record version 1.",
    )
    image_size: int | None = Field(
        default=None,
        ge=16,
        description="Side of a simulated camera's pictures (pixels), 64 by default. For record version 1: of a release "
        "of version 2 the size that it was judged on is rendered, whatever this says.",
    )


class Terms(Closed):
    """How a robot runs its release.

    Attributes:
        execution: How chunks become actions.
        image_size: Pixels along each side of the pictures.
        speed_limit: Largest share of the embodiment's limits that an action may reach.
        fixed: Whether the release says so; else the robot's own settings do.
        lowered: What the robot's settings lower of what the release was judged with, in words.
    """

    execution: Execution
    image_size: int
    speed_limit: float = 1.0
    fixed: bool
    lowered: list[str] = Field(default_factory=list)


def said(name: str, value: object, said_in: Mapping[str, Path]) -> str:
    """A setting as messages name it: the file that says it and its key, or its flag; then its value."""
    return f"{said_in[name]}: {name}: {value}" if name in said_in else f"{_flag(name)} {value}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def terms_of(record: ReleaseRecord, own: RunSettings, said_in: Mapping[str, Path] | None = None) -> Terms:
    """What a release is run with on a robot of these settings.

    Args:
        record: The release's.
        own: The robot's settings.
        said_in: Setting -> file that says it; the others were said by flags.

    Raises:
        BadInput: A setting differs from the release's, and is not a lower limit.
    """
    said_in = said_in or {}
    given = {name: value for name in _UNFIXED if (value := getattr(own, name)) is not None}
    slower = f"the speed limit is {own.speed_limit:g} of the embodiment's limits"
    lowered = [slower] if own.speed_limit < 1 else []
    if record.execution is None or record.image_size is None:
        values = {**_UNFIXED, **given}
        size = values.pop("image_size")
        execution = Execution(**values)
        return Terms(execution=execution, image_size=size, speed_limit=own.speed_limit, fixed=False, lowered=lowered)
    released = {**record.execution.model_dump(), "image_size": record.image_size}
    for name, value in given.items():
        if value == released[name] or name == "image_size":
            continue
        if name == "max_steps" and value < released[name]:
            lowered.insert(0, f"an episode is over after {value} steps, released were {released[name]}")
            continue
        where = f"take {name} out of the file" if name in said_in else f"leave {_flag(name)} out"
        raise BadInput(
            f"{said(name, value, said_in)}: release {record.release} was judged with {_words(released[name])}, and "
            f"runs with it: {where}{', or choose a lower one' if name == 'max_steps' else ''}"
        )
    steps = min(record.execution.max_steps, own.max_steps or record.execution.max_steps)
    return Terms(
        execution=record.execution.model_copy(update={"max_steps": steps}),
        image_size=record.image_size,
        speed_limit=own.speed_limit,
        fixed=True,
        lowered=lowered,
    )


def _words(value: object) -> str:
    return "none" if value is None else str(value)


def execution_words(execution: Execution, image_size: int) -> str:
    """An execution and its image size in one line."""
    parts = [f"{name} {_words(value)}" for name, value in execution.model_dump().items()]
    return ", ".join([*parts, f"images of {image_size} pixels"])
