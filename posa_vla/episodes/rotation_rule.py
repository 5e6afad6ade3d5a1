"""How an embodiment file says which action channels are one rotation."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from posa_vla.schema import Closed

RotationForm = Literal["quaternion_wxyz", "quaternion_xyzw", "rotation_vector", "euler_xyz"]
DEGREES = frozenset({"deg", "degree", "degrees"})
RADIANS = frozenset({"rad", "radian", "radians"})


class RotationRule(Closed):
    """Action channels that are one rotation together, in the frame of the actions.

    A state that has channels of these names has the same rotation in the same form.

    Attributes:
        form: `euler_xyz` are roll, pitch and yaw about fixed axes: R = Rz(yaw) Ry(pitch) Rx(roll).
        channels: Names, in the form's order; angles are in their unit, rad or deg.
    """

    form: RotationForm
    channels: list[str]

    @model_validator(mode="after")
    def _as_many_as_the_form(self) -> RotationRule:
        count = 4 if self.is_quaternion else 3
        if len(self.channels) != count or len(set(self.channels)) != count:
            raise ValueError(f"{self.form} has {count} channels, got {', '.join(self.channels) or 'none'}")
        return self

    @property
    def is_quaternion(self) -> bool:
        """Whether the form has four numbers and no unit."""
        return self.form.startswith("quaternion")

    def require_units(self, units: dict[str, str], vector: str) -> None:
        """Stops where the channels' units are none of angles.

        Args:
            units: Name -> unit of the vector's channels, which has all channels of the rule.
            vector: `state` or `action`, for the message.

        Raises:
            ValueError: An angle's unit is neither rad nor deg, or differs within the rule.
        """
        if self.is_quaternion:
            return
        found = {units[name] for name in self.channels}
        if not (found <= DEGREES or found <= RADIANS):
            raise ValueError(
                f"rotations: {vector} {', '.join(self.channels)} have unit {', '.join(sorted(found))}, expected rad or "
                "deg for all"
            )
