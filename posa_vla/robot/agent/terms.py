"""What a robot runs a release with: what the release fixes, and what the robot's own settings say or lower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from posa_vla.errors import BadInput
from posa_vla.policy.execution import UNRECORDED, Execution
from posa_vla.release.record import ReleaseRecord
from posa_vla.schema import Closed

# What a robot runs with where neither release nor bundle nor its own settings say: older releases of record version 1.
_UNFIXED: Mapping[str, Any] = {
    **UNRECORDED.model_dump(include={"execute", "committed", "ensemble", "max_steps"}),
    "image_size": 64,
}
# What no robot chooses: where neither the release nor the bundle says it, the policy is sampled as it was then.
_SAMPLING = ("flow_steps", "start_noise")
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
        "of record version 1: one of version 2, or its bundle, says it, and another value here is refused.",
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
    flow_steps: int | None = Field(
        default=None,
        ge=1,
        description="Integration steps of the policy's flow. The release or its bundle says them, and another value "
        "here is refused: a robot runs what was judged. The same holds for the next one.",
    )
    start_noise: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Scale of the noise that the flow starts from. No robot chooses it.",
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
        fixed: Whether the release says so; else its bundle does, or the robot's own settings.
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


def terms_of(
    record: ReleaseRecord,
    own: RunSettings,
    said_in: Mapping[str, Path] | None = None,
    bundle: Execution | None = None,
) -> Terms:
    """What a release is run with on a robot of these settings.

    Args:
        record: The release's.
        own: The robot's settings.
        said_in: Setting -> file that says it; the others were said by flags.
        bundle: The execution that the release's bundle names; it counts where the record names none.

    Raises:
        BadInput: A setting differs from what the release was judged with, and is not a lower limit.
    """
    said_in = said_in or {}
    given = {name: value for name in (*_UNFIXED, *_SAMPLING) if (value := getattr(own, name)) is not None}
    size = given.pop("image_size", _UNFIXED["image_size"])
    slower = f"the speed limit is {own.speed_limit:g} of the embodiment's limits"
    lowered = [slower] if own.speed_limit < 1 else []
    fixed = record.execution is not None and record.image_size is not None
    judged = record.execution if fixed else bundle

    def refused(name: str, runs_with: str, or_else: str = "") -> BadInput:
        where = f"take {name} out of the file" if name in said_in else f"leave {_flag(name)} out"
        return BadInput(f"{said(name, given[name], said_in)}: release {record.release} {runs_with}: {where}{or_else}")

    if judged is None:
        for name in _SAMPLING:
            if name in given and given[name] != getattr(UNRECORDED, name):
                was = "noise of scale 1" if name == "start_noise" else "its policy's own flow steps"
                raise refused(name, f"says nothing of it, and runs with {was}")
        values = {**_UNFIXED, **given}
        del values["image_size"]
        execution = Execution(**values)
        return Terms(execution=execution, image_size=size, speed_limit=own.speed_limit, fixed=False, lowered=lowered)
    for name, value in given.items():
        released = getattr(judged, name)
        if value == released:
            continue
        if name == "max_steps" and value < released:
            lowered.insert(0, f"an episode is over after {value} steps, released were {released}")
            continue
        or_else = ", or choose a lower one" if name == "max_steps" else ""
        raise refused(name, f"was judged with {_words(released)}, and runs with it", or_else)
    steps = min(judged.max_steps, own.max_steps or judged.max_steps)
    return Terms(
        execution=judged.model_copy(update={"max_steps": steps}),
        image_size=record.image_size or size,
        speed_limit=own.speed_limit,
        fixed=fixed,
        lowered=lowered,
    )


def _words(value: object) -> str:
    return "none" if value is None else str(value)


def execution_words(execution: Execution, image_size: int) -> str:
    """An execution and its image size in one line."""
    parts = [f"{name} {_words(value)}" for name, value in execution.model_dump().items()]
    return ", ".join([*parts, f"images of {image_size} pixels"])
