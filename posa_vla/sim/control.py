"""What an embodiment's action channels do to its arm: deltas of the end-effector, or targets of the joints."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.chain import joint_line
from posa_vla.episodes.embodiment import Embodiment, SimulatedArm
from posa_vla.errors import BadInput
from posa_vla.sim.inverse_kinematics import InverseKinematics

Floats = NDArray[np.float64]

POSITION = ("end_effector_x", "end_effector_y", "end_effector_z")
_DELTAS = ["delta_x", "delta_y", "delta_z", "gripper"]
# Metres that a target of the joints is away at most in a control step.
_JOINT_REACH = 0.02


class Control(Protocol):
    """One way in which an arm is driven."""

    def targets(self, action: Floats, joints: Floats, tip: Floats) -> tuple[Floats, float]:
        """What the servos are told.

        Args:
            action: float64 (A,), the embodiment's action channels.
            joints: Present positions (J,), rad (m where they slide).
            tip: Present end-effector position (3,), m, base frame.

        Returns:
            Joint targets (J,), and the opening of the gripper, 0 closed to 1 open.
        """
        ...

    @property
    def reach(self) -> Floats:
        """Farthest that an action moves the end-effector along each axis, (3,) m."""
        ...

    def towards(self, displacement: Floats, opening: float, joints: Floats, tip: Floats) -> NDArray[np.float32]:
        """The action float32 (A,) that moves the end-effector by (3,) m and opens the gripper so far."""
        ...

    def pushed(self, action: NDArray[np.float32], push: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action that brings the end-effector (3,) m away from where `action` would."""
        ...


class DeltaControl:
    """Actions move the measured end-effector within the workspace; the last channel is the opening."""

    def __init__(self, embodiment: Embodiment, arm_model: Any, arm: SimulatedArm) -> None:
        """Takes the arm's model alone; the workspace is the limits of the state channels `end_effector_*`."""
        limits = {channel.name: channel.limits for channel in embodiment.state}
        self._workspace = np.array([limits[name] for name in POSITION])
        self._ik = InverseKinematics(arm_model, arm)
        self.reach = np.array([channel.limits[1] for channel in embodiment.action[:3]])

    def towards(self, displacement: Floats, opening: float, joints: Floats, tip: Floats) -> NDArray[np.float32]:
        """See `Control`."""
        return np.array([*displacement, opening], dtype=np.float32)

    def pushed(self, action: NDArray[np.float32], push: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Control`."""
        moved = action.copy()
        moved[:3] += push
        return moved

    def targets(self, action: Floats, joints: Floats, tip: Floats) -> tuple[Floats, float]:
        """See `Control`."""
        aim = np.clip(tip + action[:3], self._workspace[:, 0], self._workspace[:, 1])
        return self._ik.solve(joints, aim), float(action[3])


class JointControl:
    """Actions are targets of the joints, in the channels' own units, and of the gripper."""

    def __init__(self, embodiment: Embodiment, arm_model: Any, arm: SimulatedArm) -> None:
        """Takes the arm's model, whose limits a span of a channel may refer to."""
        self._channels = JointChannels(embodiment, arm_model, arm, [channel.name for channel in embodiment.action])
        self._limits = np.array([arm_model.joint(name).range for name in arm.joints])
        self._ik = InverseKinematics(arm_model, arm)
        self.reach = np.full(3, _JOINT_REACH)

    def towards(self, displacement: Floats, opening: float, joints: Floats, tip: Floats) -> NDArray[np.float32]:
        """See `Control`."""
        return self._channels.write(self._ik.solve(joints, tip + displacement), opening)

    def pushed(self, action: NDArray[np.float32], push: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Control`."""
        joints, opening = self._channels.read(action.astype(np.float64))
        return self._channels.write(self._ik.solve(joints, self._ik.tip(joints) + push), opening)

    def targets(self, action: Floats, joints: Floats, tip: Floats) -> tuple[Floats, float]:
        """See `Control`."""
        wanted, opening = self._channels.read(action)
        return np.clip(wanted, self._limits[:, 0], self._limits[:, 1]), float(np.clip(opening, 0, 1))


class JointChannels:
    """Channels that are joints in units of their own, and one that is the gripper: to positions and back."""

    def __init__(self, embodiment: Embodiment, arm_model: Any, arm: SimulatedArm, names: list[str]) -> None:
        """Finds which channel is which joint.

        Raises:
            ValueError: A joint of the arm is no channel, or no channel is the gripper.
        """
        kinematics, rule = embodiment.kinematics, embodiment.gripper
        if kinematics is None or rule is None:
            raise ValueError("actions that are joints need the sections kinematics and gripper")
        units = {channel.name: channel.unit for channel in (*embodiment.state, *embodiment.action)}
        channels = {kinematics.use(channel).joint: channel for channel in kinematics.joints}
        missing = [joint for joint in arm.joints if channels.get(joint) not in names]
        if missing or rule.channel not in names:
            raise ValueError(f"no channel is {', '.join(missing) or 'the gripper'} among {', '.join(names)}")
        self._columns = [names.index(channels[joint]) for joint in arm.joints]
        lines = [
            joint_line(kinematics.use(channels[joint]), units[channels[joint]], tuple(arm_model.joint(joint).range))
            for joint in arm.joints
        ]
        self._scale, self._offset = (np.array(column) for column in zip(*lines, strict=True))
        self._gripper, self._closed, self._open = names.index(rule.channel), rule.closed, rule.open
        self._width = len(names)

    def read(self, values: Floats) -> tuple[Floats, float]:
        """Joint positions (J,) and opening (0 closed to 1 open) of channels (A,)."""
        positions: Floats = values[self._columns] * self._scale + self._offset
        return positions, float((values[self._gripper] - self._closed) / (self._open - self._closed))

    def write(self, positions: Floats, opening: float) -> NDArray[np.float32]:
        """Channels float32 (A,) of joint positions (J,) and an opening."""
        values = np.zeros(self._width)
        values[self._columns] = (positions - self._offset) / self._scale
        values[self._gripper] = self._closed + opening * (self._open - self._closed)
        return values.astype(np.float32)


def make_control(embodiment: Embodiment, arm_model: Any, arm: SimulatedArm, where: str) -> Control:
    """The way in which an embodiment's action channels drive its arm.

    Raises:
        BadInput: They are neither deltas of the end-effector nor its joints.
    """
    names = [channel.name for channel in embodiment.action]
    if names == _DELTAS:
        missing = [name for name in POSITION if name not in {channel.name for channel in embodiment.state}]
        if missing:
            raise BadInput(
                f"{where}: state channels {missing} missing; expected {list(POSITION)} among them (their limits are "
                "the workspace)"
            )
        return DeltaControl(embodiment, arm_model, arm)
    try:
        return JointControl(embodiment, arm_model, arm)
    except ValueError as error:
        raise BadInput(
            f"{where}: action channels are {names}, the simulator understands {_DELTAS}, or the joints that "
            f"`kinematics` names and the gripper: {error}"
        ) from None
