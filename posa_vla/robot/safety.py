"""The safety envelope between a policy and a robot: what does not fit is clamped or held.

A second line. It replaces no certified protective stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.robot.robot import Reading

# Control periods after which a reading is too old to act on, or an action too late to apply: one period of jitter and
# one of inference.
PATIENCE = 2.0


class Envelope:
    """Judges readings and actions of one embodiment.

    Attributes:
        clamped: Actions that were brought back into the limits.
        holds: Reason -> control periods held for it.
    """

    def __init__(self, embodiment: Embodiment, cameras: Sequence[str] | None = None) -> None:
        """Takes the limits of `embodiment`; `cameras` are the roles that the policy looks through (all if None).

        Raises:
            BadInput: The embodiment declares no limits: nothing moves without them.
        """
        embodiment.require_limits("the safety envelope")
        self._low, self._high = embodiment.action_limits()
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
