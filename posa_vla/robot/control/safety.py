"""The safety envelope between a policy and a robot: what does not fit is clamped or held.

A second line. It replaces no certified protective stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.errors import BadInput
from posa_vla.robot.control.robot import Reading

# Control periods after which a reading is too old to act on, or an action too late to apply: one period of jitter and
# one of inference.
PATIENCE = 2.0


def _is_motion(channel: Channel) -> bool:
    """Whether zero is standing still, and more is faster: a delta of one control period, or a velocity."""
    return channel.name.startswith("delta_") or channel.unit.endswith("/s")


def speed_limited(embodiment: Embodiment, speed_limit: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(low, high) of the actions, each float32 (A,), with the channels that move the robot scaled by a speed limit.

    A gripper's channel is a target, and keeps its limits.

    Args:
        embodiment: With limits.
        speed_limit: Share of them, in (0, 1].

    Raises:
        BadInput: The share is not above 0 and at most 1. Or it is below 1, and an action channel is a position: scaled
            limits would not make the robot slower.
    """
    low, high = embodiment.action_limits()
    if not 0 < speed_limit <= 1:
        raise BadInput(f"speed limit {speed_limit}: expected more than 0, at most 1")
    if speed_limit == 1:
        return low, high
    grippers = {rule.channel for rule in embodiment.gripper_rules if rule.vector == "action"} or {"gripper"}
    for index, channel in enumerate(embodiment.action):
        if channel.name in grippers:
            continue
        if not _is_motion(channel) or not low[index] <= 0 <= high[index]:
            raise BadInput(
                f"a speed limit cannot be applied to action {channel.name} ({channel.unit}) of embodiment "
                f"{embodiment.id}: expected deltas (delta_*) or velocities (unit .../s) around 0; leave the limit out"
            )
        low[index], high[index] = speed_limit * low[index], speed_limit * high[index]
    return low, high


class Envelope:
    """Judges readings and actions of one embodiment.

    Attributes:
        clamped: Actions that were brought back into the limits.
        holds: Reason -> control periods held for it.
    """

    def __init__(self, embodiment: Embodiment, cameras: Sequence[str] | None = None, speed_limit: float = 1.0) -> None:
        """Takes the limits of `embodiment`; `cameras` are the roles that the policy looks through (all if None).

        Raises:
            BadInput: The embodiment declares no limits: nothing moves without them; or see `speed_limited`.
        """
        embodiment.require_limits("the safety envelope")
        self._low, self._high = speed_limited(embodiment, speed_limit)
        self._states = len(embodiment.state)
        self._cameras = tuple(embodiment.cameras if cameras is None else cameras)
        self.period = 1 / embodiment.control_hz
        self.clamped = 0
        self.holds: Counter[str] = Counter()

    def deadline(self, reading: Reading, index: int) -> float:
        """When the `index`-th action of a chunk computed from `reading` is too late (s, the robot's clock)."""
        return reading.time + (index + PATIENCE) * self.period

    def unfit(self, reading: Reading, now: float) -> str | None:
        """Why nothing may be done on `reading` at time `now` (s, the robot's clock), or None."""
        for role in self._cameras:
            image = reading.images.get(role)
            if image is None or image.size == 0:
                return "lost camera"
        if reading.state.shape != (self._states,) or not np.isfinite(reading.state).all():
            return "wrong state"
        if now - reading.time > PATIENCE * self.period:
            return "old reading"
        return None

    def admit(
        self, action: NDArray[np.float32], deadline: float, now: float
    ) -> tuple[NDArray[np.float32] | None, str | None]:
        """The action to apply, or None and why the robot must hold instead.

        Args:
            action: float32 (A,), physical units.
            deadline: From `deadline`.
            now: Seconds of the robot's clock.
        """
        if action.shape != self._low.shape or not np.isfinite(action).all():
            return None, "action not finite" if action.shape == self._low.shape else "wrong action"
        if now > deadline:
            return None, "late action"
        inside = np.clip(action, self._low, self._high)
        if not np.array_equal(inside, action):
            self.clamped += 1
        return inside, None
