"""The embodiment file: what a robot has, in which units, within which limits."""

from __future__ import annotations

import importlib.resources
import math
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from posa_vla.episodes.chain import Kinematics
from posa_vla.episodes.gripper_rule import GripperRule
from posa_vla.episodes.rotation_rule import RotationRule
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import sha256_json
from posa_vla.schema import Closed, parse
from posa_vla.yaml_file import read_yaml

# Unit or frame of what nobody has declared.
UNSTATED = "unstated"


def _absent(value: object) -> bool:
    return value is None


def _no(value: object) -> bool:
    return value is False


def _empty(value: object) -> bool:
    return value == []


def _square(value: object) -> bool:
    return value == 1.0


class Channel(Closed):
    """One number of the state or action vector.

    `low` and `high` are its limits, in its unit; a channel whose limits nobody has declared has neither.
    """

    name: str
    unit: str
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Channel:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low and high come together, got {self.low} and {self.high}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """(low, high); infinite where nothing was declared."""
        return (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)

    @property
    def middle(self) -> float:
        """Middle between the limits; 0 where no limits were declared."""
        return 0.0 if self.low is None or self.high is None else (self.low + self.high) / 2


class CameraSpec(Closed):
    """A camera by its role (`head`, `wrist`, ...).

    `source` is the name that the robot or the MJCF gives it; `moving` says whether its pose changes over an episode.
    `aspect` is width over height of what the simulator renders for it.
    """

    source: str
    moving: bool = False
    aspect: float = Field(default=1.0, ge=1, le=4, exclude_if=_square)


class TableArea(Closed):
    """Where on the table a simulated arm's objects lie, and how large they are.

    Attributes:
        centre: Of the square that they lie in, (x, y) m, base frame.
        half_width: Half its side, m.
        scale: Size of the objects, and of the distances between them, beside those of `sim_arm6`.
        camera: Elevation (rad), distance (m) and vertical field of view (degrees) of the scene's camera `head`, which
            looks at the centre from in front of the arm.
    """

    centre: tuple[float, float] = (0.41, 0.0)
    half_width: float = Field(default=0.13, gt=0)
    scale: float = Field(default=1.0, gt=0)
    camera: tuple[float, float, float] = (0.96, 0.9, 24.0)


class SimulatedArm(Closed):
    """How an MJCF arm is driven: names inside the MJCF file.

    `mjcf` is relative to the embodiment file. `home` is the joint configuration (rad) in which an episode starts.
    `area` is where objects lie, `one_jaw` says that one jaw moves and the other one stands still.
    `gripper_range` is the finger actuator's control for (closed, open), in metres, or in rad where the finger turns.
    """

    mjcf: str
    joints: list[str]
    actuators: list[str]
    home: list[float]
    end_effector_site: str
    gripper_actuator: str
    gripper_joint: str
    gripper_range: tuple[float, float]
    area: TableArea | None = Field(default=None, exclude_if=_absent)
    one_jaw: bool = Field(default=False, exclude_if=_no)


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
        kinematics: How the end-effector pose follows from the state, where it is not recorded.
        gripper: Which channel is the gripper; by default an action channel named `gripper`, else the measured opening.
            Of several end effectors each has its own, in `kinematics`.
        rotations: Action channels that are rotations of end effectors; a policy predicts each as six numbers.
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
    # Left out where absent: a declaration that says nothing of them keeps the digest that it always had.
    kinematics: Kinematics | None = Field(default=None, exclude_if=_absent)
    gripper: GripperRule | None = Field(default=None, exclude_if=_absent)
    rotations: list[RotationRule] = Field(default_factory=list, exclude_if=_empty)

    @model_validator(mode="after")
    def _names_known(self) -> Embodiment:
        for what, channels in (("state", self.state), ("action", self.action)):
            names = [channel.name for channel in channels]
            if len(set(names)) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise ValueError(f"{what} names {', '.join(twice)} twice")
        joints = self.kinematics.joints if self.kinematics is not None else {}
        if self.kinematics is not None:
            self.kinematics.require_units({channel.name: channel.unit for channel in self.state})
        wanted = [("state", name) for name in joints]
        if self.gripper is not None and self.end_effectors:
            raise ValueError(
                "gripper: each of kinematics.end_effectors has its own, expected none beside them: leave it out"
            )
        wanted += [(rule.vector, rule.channel) for rule in self.gripper_rules]
        wanted += [("action", name) for rule in self.rotations for name in rule.channels]
        for vector, name in wanted:
            names = [channel.name for channel in (self.state if vector == "state" else self.action)]
            if name not in names:
                raise ValueError(f"{vector} has no channel {name!r}; {did_you_mean(name, names)}")
        return self

    @model_validator(mode="after")
    def _rotations_whole(self) -> Embodiment:
        turned = [name for rule in self.rotations for name in rule.channels]
        if twice := sorted({name for name in turned if turned.count(name) > 1}):
            raise ValueError(f"rotations name {', '.join(twice)} twice")
        state = {channel.name: channel.unit for channel in self.state}
        for rule in self.rotations:
            rule.require_units({channel.name: channel.unit for channel in self.action}, "action")
            there = [name for name in rule.channels if name in state]
            if there and len(there) < len(rule.channels):
                missing = [name for name in rule.channels if name not in state]
                raise ValueError(
                    f"rotations: the state has {', '.join(there)} and lacks {', '.join(missing)}, expected all or none"
                )
            if there:
                rule.require_units(state, "state")
        return self

    @property
    def end_effectors(self) -> tuple[str, ...]:
        """Names of several end effectors, in the order of poses, openings and anchor channels; empty where one is."""
        return tuple(self.kinematics.end_effectors) if self.kinematics is not None else ()

    @property
    def gripper_rules(self) -> list[GripperRule]:
        """Rule of each end effector's gripper, in order; empty where none is declared."""
        if self.kinematics is not None and self.kinematics.end_effectors:
            return [end.gripper for end in self.kinematics.end_effectors.values()]
        return [] if self.gripper is None else [self.gripper]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the declaration."""
        return sha256_json(self.model_dump(mode="json"))

    def action_limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(low, high), each float32 (A,), physical units; infinite where the embodiment declares none."""
        low, high = zip(*(channel.limits for channel in self.action), strict=True)
        return np.array(low, np.float32), np.array(high, np.float32)

    def require_limits(self, purpose: str) -> None:
        """Stops where a robot would be moved without declared limits.

        Raises:
            BadInput: A channel of state or action has no declared limits.
        """
        for what, channels in (("state", self.state), ("action", self.action)):
            without = [channel.name for channel in channels if channel.low is None]
            if without:
                raise BadInput(
                    f"{purpose} needs limits: embodiment {self.id} declares none for {what} {', '.join(without[:4])}"
                    f"{' and others' if len(without) > 4 else ''}; add low and high in its file"
                )


def shipped_embodiments() -> dict[str, Path]:
    """Name -> file of the embodiments that come with the package."""
    folder = Path(str(importlib.resources.files("posa_vla") / "embodiments"))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def embodiment_file(name_or_path: str) -> Path:
    """The file of a shipped embodiment's name, or the given path itself.

    Raises:
        BadInput: The text is neither a shipped name nor a file.
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
        BadInput: The file does not exist or does not fit the schema.
    """
    path = embodiment_file(name_or_path)
    return parse(Embodiment, read_yaml(path), str(path))
