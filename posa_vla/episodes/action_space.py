"""What a network predicts of an embodiment's actions: themselves, or what they add to the present state."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.rotation_rule import DEGREES, RotationForm
from posa_vla.errors import BadInput
from posa_vla.schema import Closed

# Numbers of a rotation as a network predicts it (Zhou et al. 2019).
SIX = 6


def _empty(value: object) -> bool:
    return value == []


class Rotation(Closed):
    """Action channels, by their places, that are predicted as the first two columns of a rotation matrix.

    Attributes:
        form: See `RotationRule`.
        channels: Places in the action, in the form's order.
        degrees: Whether angles are in degrees.
        state: Places of the same rotation in the state, in the same unit; empty where it lacks it. A rotation has many
            numbers, and those nearest to the state's are meant.
    """

    form: RotationForm
    channels: list[int]
    degrees: bool = False
    state: list[int] = Field(default_factory=list, exclude_if=_empty)


class ActionSpace(Closed):
    """How a network's actions differ from an embodiment's, which are what executors, simulators and robots see.

    The network's channels are those that belong to no rotation, in their order, and then six of each rotation.

    Attributes:
        relative_to: For each action channel the state channel, at the chunk's start, that is taken off it; None for a
            channel that is predicted as it is. Of a rotation, the turn from the state's to the action's is predicted,
            about the axes of the actions' frame.
        rotations: Channels that are predicted as rotations.
    """

    relative_to: list[int | None]
    rotations: list[Rotation]

    @property
    def plain(self) -> list[int]:
        """Places of the action channels that belong to no rotation."""
        turned = {channel for rotation in self.rotations for channel in rotation.channels}
        return [channel for channel in range(len(self.relative_to)) if channel not in turned]

    @property
    def width(self) -> int:
        """Channels of the network's actions."""
        return len(self.plain) + SIX * len(self.rotations)


def action_space(embodiment: Embodiment, actions: Literal["absolute", "relative"]) -> ActionSpace | None:
    """The space that a network for an embodiment predicts in; None where that is the embodiment's own.

    Args:
        embodiment: Its `rotations` are predicted as six numbers each.
        actions: `relative`: a channel that the state has by the same name is predicted as what it adds to the state;
            grippers, and channels that the state lacks, stay absolute.

    Raises:
        BadInput: Actions that are to be relative have nothing that they could be relative to, or another unit.
    """
    units = {channel.name: channel.unit for channel in embodiment.action}
    names = list(units)
    rotations = [
        Rotation(
            form=rule.form,
            channels=[names.index(name) for name in rule.channels],
            degrees=units[rule.channels[0]] in DEGREES,
            state=_known(embodiment, rule.channels, units[rule.channels[0]] in DEGREES),
        )
        for rule in embodiment.rotations
    ]
    relative_to: list[int | None] = [None] * len(names)
    if actions == "relative":
        relative_to = _same_state(embodiment)
    elif not rotations:
        return None
    return ActionSpace(relative_to=relative_to, rotations=rotations)


def _known(embodiment: Embodiment, names: list[str], degrees: bool) -> list[int]:
    places = {channel.name: place for place, channel in enumerate(embodiment.state)}
    if not places.keys() >= {*names}:
        return []
    found = [places[name] for name in names]
    return found if all((embodiment.state[place].unit in DEGREES) == degrees for place in found) else []


def _same_state(embodiment: Embodiment) -> list[int | None]:
    places = {channel.name: place for place, channel in enumerate(embodiment.state)}
    grippers = _grippers(embodiment)
    found: list[int | None] = []
    for channel in embodiment.action:
        place = places.get(channel.name)
        if place is None or channel.name in grippers:
            found.append(None)
            continue
        if embodiment.state[place].unit != channel.unit:
            raise BadInput(
                f"prepare.actions=relative: {channel.name} of embodiment {embodiment.id} is in {channel.unit} in the "
                f"action and in {embodiment.state[place].unit} in the state, expected one unit: mend its file"
            )
        found.append(place)
    if all(place is None for place in found):
        raise BadInput(
            f"prepare.actions=relative: embodiment {embodiment.id} has no action channel, besides grippers, that its "
            "state has by the same name, so that there is nothing to be relative to: prepare.actions=absolute"
        )
    return found


def _grippers(embodiment: Embodiment) -> set[str]:
    """Names of the grippers' channels: those that are declared, else those that say so."""
    declared = {rule.channel for rule in embodiment.gripper_rules}
    if declared:
        return declared | {"gripper"}
    turned = {name for rule in embodiment.rotations for name in rule.channels}
    return {channel.name for channel in embodiment.action if "gripper" in channel.name.lower()} - turned
