"""How an embodiment file says which channel a gripper is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from posa_vla.schema import Closed


class GripperRule(Closed):
    """What of the recording is the gripper, and when it has opened or closed.

    `channel` of `vector` is scaled so that `closed` is 0 and `open` is 1. An event is a crossing with hysteresis: from
    above `open_above` to below `closed_below`, or back.
    """

    vector: Literal["state", "action"] = "action"
    channel: str
    closed: float
    open: float
    closed_below: float = Field(default=0.4, gt=0, lt=1)
    open_above: float = Field(default=0.6, gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> GripperRule:
        if self.closed == self.open:
            raise ValueError(f"closed and open must differ, both are {self.open}")
        if not self.closed_below < self.open_above:
            raise ValueError(f"closed_below must be below open_above, got {self.closed_below} and {self.open_above}")
        return self
