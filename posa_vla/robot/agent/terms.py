"""What a robot runs a release with: what the release fixes, and what the robot's own settings say or lower."""

from __future__ import annotations

from collections.abc import Mapping
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

    Attributes:
        execute: See `Execution`, and so for `committed`, `ensemble` and `max_steps`.
        image_size: Pixels along each side of the pictures where the release does not say: a driver that can choose
            delivers what the release was judged on, and another one what its camera gives.
        speed_limit: Largest share of the embodiment's limits that an action may reach, in (0, 1].
        allow_upscale: Whether a camera may show less than the release was judged on.
    """

    execute: int | None = Field(default=None, ge=1)
    committed: int | None = Field(default=None, ge=0)
    ensemble: float | None = Field(default=None, ge=0)
    max_steps: int | None = Field(default=None, ge=1)
    image_size: int | None = Field(default=None, ge=16)
    speed_limit: float = Field(default=1.0, gt=0, le=1)
    allow_upscale: bool = False


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


def terms_of(record: ReleaseRecord, own: RunSettings) -> Terms:
    """What a release is run with on a robot of these settings.

    Raises:
        BadInput: A setting is another than the release's, and is not a lower limit.
    """
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
        flag = f"--{name.replace('_', '-')}"
        if name == "max_steps" and value < released[name]:
            lowered.insert(0, f"an episode is over after {value} steps, released were {released[name]}")
            continue
        raise BadInput(
            f"{flag} {value}: release {record.release} was judged with {_words(released[name])}, and runs with it: "
            f"leave {flag} out{', or choose a lower one' if name == 'max_steps' else ''}"
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
