"""How an embodiment file declares its chain of joints: a model file, and what the recorded channels mean to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from posa_vla.episodes.gripper_rule import GripperRule
from posa_vla.schema import Closed

# Unit of a channel -> what makes it rad, or m of a sliding joint.
JOINT_UNITS = {"rad": 1.0, "m": 1.0, "deg": math.pi / 180, "degree": math.pi / 180, "degrees": math.pi / 180}
JOINT_UNITS |= {"mm": 1e-3, "cm": 1e-2}


def _absent(value: object) -> bool:
    return value is None


def _empty(value: object) -> bool:
    return not value


def _require_place(site: str | None, body: str | None, point: object, of: str = "") -> None:
    if (site is None) == (body is None):
        raise ValueError(f"{of}expected site or body, got {'both' if site else 'neither'}")
    if point is not None and body is None:
        raise ValueError(f"{of}point is in the frame of a body: name the body instead of the site")


class JointUse(Closed):
    """A channel that is a joint's position, in other numbers than rad or m.

    Attributes:
        joint: Name in the model file.
        scale: rad (m) per unit of the channel; by the channel's unit if None.
        offset: rad (m), added after scaling.
        span: The channel's values at the joint's lower and upper limit in the model file, as LeRobot's -100 and 100;
            instead of `scale` and `offset`.
    """

    joint: str
    scale: float | None = Field(default=None, exclude_if=_absent)
    offset: float | None = Field(default=None, exclude_if=_absent)
    span: tuple[float, float] | None = Field(default=None, exclude_if=_absent)

    @model_validator(mode="after")
    def _sound(self) -> JointUse:
        if self.span is not None and (self.scale is not None or self.offset is not None):
            raise ValueError("span says scale and offset already: give either")
        if self.span is not None and self.span[0] == self.span[1]:
            raise ValueError(f"the ends of span must differ, both are {self.span[0]:g}")
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        return self


class ChainSource(Closed):
    """Where a shipped chain's numbers come from.

    Attributes:
        package: Name on the package index.
        version: Of the package.
        files: File in its wheel -> hex SHA-256.
        licence: SPDX name.
    """

    package: str
    version: str
    files: dict[str, str] = Field(min_length=1)
    licence: str


class Place(NamedTuple):
    """What of a model file is an end-effector: a site or body, and the point in the body's frame (m)."""

    kind: Literal["site", "body"]
    name: str
    point: tuple[float, float, float]


class Jaw(Closed):
    """A part of a gripper that moves when it opens or closes: where pictures change then.

    Attributes:
        joint: That moves it, in the model file.
        tip: Its tip, in the frame of the joint's body, m.
        closed: The joint's position where the gripper is closed, rad (m where it slides).
        open: Where it is open.
    """

    joint: str
    tip: tuple[float, float, float]
    closed: float
    open: float


class EndEffector(Closed):
    """One of several end effectors.

    Attributes:
        site: It is this site of the file,
        body: or this body, and `point` in it.
        point: In the body's frame, m; its origin if None.
        gripper: Which channel opens and closes it.
    """

    site: str | None = Field(default=None, exclude_if=_absent)
    body: str | None = Field(default=None, exclude_if=_absent)
    point: tuple[float, float, float] | None = Field(default=None, exclude_if=_absent)
    gripper: GripperRule

    @model_validator(mode="after")
    def _one_place(self) -> EndEffector:
        _require_place(self.site, self.body, self.point)
        return self


class Kinematics(Closed):
    """Where the end-effector is, from recorded joints: MuJoCo computes the forward kinematics of a model file.

    Attributes:
        mjcf: MJCF file, relative to the embodiment file. Its meshes need not be there.
        urdf: URDF file instead, likewise.
        joints: State channel -> the joint whose position it is. Joints that are not named stay at the file's default.
        site: The end-effector is this site of the file,
        body: or this body (of a URDF: link), and `point` in it.
        point: In the body's frame, m; its origin if None.
        end_effectors: Name -> end effector instead, where there are several. Their order is that of their names,
            whichever way they are written: files of ours have sorted keys.
        jaws: What of a lone end-effector's gripper moves, for `posa data calibrate`.
        base: Body whose frame is the base frame.
        source: Where the file's numbers come from, if it is a shipped one.
    """

    mjcf: str | None = Field(default=None, exclude_if=_absent)
    urdf: str | None = Field(default=None, exclude_if=_absent)
    joints: dict[str, str | JointUse] = Field(min_length=1)
    site: str | None = Field(default=None, exclude_if=_absent)
    body: str | None = Field(default=None, exclude_if=_absent)
    point: tuple[float, float, float] | None = Field(default=None, exclude_if=_absent)
    end_effectors: dict[str, EndEffector] = Field(default_factory=dict, exclude_if=_empty)
    jaws: list[Jaw] = Field(default_factory=list, exclude_if=_empty)
    base: str = "world"
    source: ChainSource | None = Field(default=None, exclude_if=_absent)

    @model_validator(mode="after")
    def _one_each(self) -> Kinematics:
        if (self.mjcf is None) == (self.urdf is None):
            raise ValueError(f"expected mjcf or urdf, got {'both' if self.mjcf else 'neither'}")
        if not self.end_effectors:
            _require_place(self.site, self.body, self.point)
            return self
        if self.jaws:
            raise ValueError("end_effectors and jaws: jaws are those of a lone end effector, expected none beside them")
        for name in ("site", "body", "point"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"end_effectors and {name}: say where each end effector is, expected no {name} beside them"
                )
        if len(self.end_effectors) < 2:
            raise ValueError("end_effectors has 1 name, expected several: say site or body of a lone one, and gripper")
        rules = [(end.gripper.vector, end.gripper.channel) for end in self.end_effectors.values()]
        if len(set(rules)) < len(rules):
            raise ValueError(f"two of end_effectors have one gripper: {', '.join(' '.join(rule) for rule in rules)}")
        return self

    @field_validator("end_effectors")
    @classmethod
    def _in_order(cls, value: dict[str, EndEffector]) -> dict[str, EndEffector]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "task":
                raise ValueError(f"end effector {name!r}: expected small letters, digits and _, and not `task`")
        return dict(sorted(value.items()))

    @property
    def file(self) -> str:
        """The model file, relative to the embodiment file."""
        return self.mjcf or self.urdf or ""

    @property
    def places(self) -> list[Place]:
        """What of the file each end-effector is, in order; one where `end_effectors` names none."""
        ends = [(end.site, end.body, end.point) for end in self.end_effectors.values()]
        return [
            Place("site", site, (0, 0, 0)) if site is not None else Place("body", body or "", point or (0, 0, 0))
            for site, body, point in ends or [(self.site, self.body, self.point)]
        ]

    def use(self, channel: str) -> JointUse:
        """What a channel means."""
        used = self.joints[channel]
        return JointUse(joint=used) if isinstance(used, str) else used

    def require_units(self, units: Mapping[str, str]) -> None:
        """Checks that every channel's unit says how it becomes rad or m, or the joint does.

        Args:
            units: State channel -> unit.

        Raises:
            ValueError: Neither does.
        """
        for channel in self.joints:
            use, unit = self.use(channel), units.get(channel)
            if use.scale is None and use.span is None and unit is not None and unit not in JOINT_UNITS:
                raise ValueError(
                    f"kinematics.joints: state {channel} is in {unit}, expected rad, deg, m or mm, or how it becomes "
                    f"rad (m where it slides): {channel}: {{joint: {use.joint}, scale: ..., offset: ...}}, or "
                    f"{{joint: {use.joint}, span: [-100, 100]}} for its values at the joint's limits"
                )


def joint_line(use: JointUse, unit: str, limits: tuple[float, float] | None) -> tuple[float, float]:
    """(scale, offset) by which a channel becomes a joint's position: rad, or m where it slides.

    Args:
        use: What the channel means.
        unit: Of the channel.
        limits: Of the joint in the model file, or None where it has none.

    Raises:
        ValueError: `span` needs limits, and the joint has none.
    """
    if use.span is None:
        scale = JOINT_UNITS.get(unit, 1.0) if use.scale is None else use.scale
        return scale, use.offset or 0.0
    if limits is None:
        raise ValueError(f"joint {use.joint!r} has no limits in the file: say scale and offset instead of span")
    scale = (limits[1] - limits[0]) / (use.span[1] - use.span[0])
    return scale, limits[0] - scale * use.span[0]
