"""When a policy's commands open and close the grippers, against the recording."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.labels import crossings
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.gripper_rule import GripperRule
from posa_vla.evidence.offline import EventTiming

# An event of the policy is a recorded one if it is no further from it (s).
_WITHIN = 1.0


def commanded_grippers(embodiment: Embodiment) -> dict[str, GripperRule]:
    """Action channel -> how it is a gripper: by the embodiment's rules, else a channel `gripper` with limits."""
    names = [channel.name for channel in embodiment.action]
    rules = embodiment.gripper_rules
    if rules:
        return {rule.channel: rule for rule in rules if rule.channel in names}
    return {
        channel.name: GripperRule(channel=channel.name, closed=channel.low, open=channel.high)
        for channel in embodiment.action
        if channel.name == "gripper" and channel.low is not None and channel.high is not None
    }


@dataclass
class GripperTimes:
    """Counts events of one gripper over episodes."""

    rule: GripperRule
    recorded: int = 0
    extra: int = 0
    apart: list[float] = field(default_factory=list)

    def add(self, recorded: NDArray[np.float32], asked: NDArray[np.float32], fps: float) -> None:
        """Compares the channel (T,) of one episode as recorded and as the policy asked for it."""
        theirs, ours = self._events(recorded), self._events(asked)
        self.recorded += len(theirs)
        left = list(ours)
        for frame, opens in theirs:
            fitting = [event for event in left if event[1] == opens and abs(event[0] - frame) <= _WITHIN * fps]
            if fitting:
                nearest = min(fitting, key=lambda event: abs(event[0] - frame))
                left.remove(nearest)
                self.apart.append(abs(nearest[0] - frame) / fps)
        self.extra += len(left)

    def _events(self, values: NDArray[np.float32]) -> list[tuple[int, bool]]:
        """(frame, whether it opens) of each event."""
        rule = self.rule
        opening = (values.astype(np.float64) - rule.closed) / (rule.open - rule.closed)
        frames = crossings(opening, rule.closed_below, rule.open_above)
        return [(int(frame), bool(opening[frame] > rule.open_above)) for frame in frames]

    def timing(self) -> EventTiming:
        """What was counted."""
        return EventTiming(
            gripper=self.rule.channel,
            recorded=self.recorded,
            found=len(self.apart),
            extra=self.extra,
            seconds=round(float(np.mean(self.apart)), 4) if self.apart else None,
        )
