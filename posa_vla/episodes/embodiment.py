"""The embodiment file: what a robot has, in which units, within which limits."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import sha256_json
from posa_vla.schema import Closed, parse, read_yaml


class Channel(Closed):
    """One number of the state or action vector."""

    name: str
    unit: str
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Channel:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self


class CameraSpec(Closed):
    """A camera by its role (`head`, `wrist`, ...).

    `source` is the name that the robot or the MJCF gives it; `moving` says whether its pose changes over an episode.
    """

    source: str
    moving: bool = False


class SimulatedArm(Closed):
    """How an MJCF arm is driven: names inside the MJCF file.

    `mjcf` is relative to the embodiment file. `home` is the joint configuration (rad) in which an episode starts.
    `gripper_range` is the finger actuator's control for (closed, open), in metres.
    """

    mjcf: str
    joints: list[str]
    actuators: list[str]
    home: list[float]
    end_effector_site: str
    gripper_actuator: str
    gripper_joint: str
    gripper_range: tuple[float, float]


class Embodiment(Closed):
    """A robot as declared by its file; the digest of this declaration is part of every release.

    Attributes:
        id: Name, unique among the embodiments of a team.
        simulated: Whether it exists in simulation alone; only then may a release need no approval.
        cameras: Role -> camera.
        state: Channels of `observation.state`, in order.
        action: Channels of `action`, in order, in the frame of `action_frame`.
        control_hz: Rate at which actions are applied.
        arm: Simulation model, where there is one.
    """

    schema_version: Literal[1] = 1
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    simulated: bool
    cameras: dict[str, CameraSpec]
    state: list[Channel]
    action: list[Channel]
    action_frame: str
    control_hz: float = Field(gt=0)
    arm: SimulatedArm | None = None

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the declaration."""
        return sha256_json(self.model_dump(mode="json"))

    def action_limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(low, high), each float32 (A,), physical units."""
        return (
            np.array([c.low for c in self.action], np.float32),
            np.array([c.high for c in self.action], np.float32),
        )


def shipped_embodiments() -> dict[str, Path]:
    """Name -> file of the embodiments that come with the package."""
    folder = Path(str(importlib.resources.files("posa_vla") / "embodiments"))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def embodiment_file(name_or_path: str) -> Path:
    """The file of a shipped embodiment's name, or the given path itself.

    Raises:
        BadInput: Neither a shipped name nor a file.
    """
    shipped = shipped_embodiments()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise BadInput(
            f"embodiment {name_or_path!r} is neither a shipped one nor a file; {did_you_mean(name_or_path, shipped)}"
        )
    return path


def load_embodiment(name_or_path: str) -> Embodiment:
    """Reads an embodiment by shipped name or path.

    Raises:
        BadInput: It does not exist or does not fit the schema.
    """
    path = embodiment_file(name_or_path)
    return parse(Embodiment, read_yaml(path), str(path))
