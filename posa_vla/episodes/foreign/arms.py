"""A dataset's robot declared as one of the arms that are shipped: its chain, units, limits and gripper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from posa_vla.episodes.embodiment import Channel, Embodiment, load_embodiment, shipped_embodiments
from posa_vla.episodes.foreign.channels import NUMBERED
from posa_vla.episodes.gripper_rule import GripperRule
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import write_bytes

# What recorders put around a joint's name.
_AROUND = re.compile(r"^(main|follower|observation|state|action)[_.]|[_.](pos|position|qpos)$")


def shipped_arms() -> dict[str, Embodiment]:
    """Name -> real arms that are shipped with a chain of joints; a dataset brings its own cameras."""
    found = {name: load_embodiment(name) for name in shipped_embodiments()}
    return {name: arm for name, arm in found.items() if arm.kinematics is not None and not arm.simulated}


def arms_like(names: Sequence[str]) -> list[str]:
    """Shipped arms whose state channels have the same names as a dataset's, whatever recorders put around them."""
    bare = {_bare(name) for name in names}
    return [name for name, arm in shipped_arms().items() if {_bare(c.name) for c in arm.state} <= bare]


def as_arm(robot: Embodiment, name: str) -> Embodiment:
    """What is known of a shipped arm, in a declaration that was derived from a dataset.

    Channels are the arm's by their names, or by their order where a dataset only numbers them.

    Args:
        robot: As the dataset shows it; its cameras, rate and id stay, and its channels' names.
        name: Of the arm.

    Raises:
        BadInput: No such arm is shipped, or the dataset's state is another arm's.
    """
    arms = shipped_arms()
    if name not in arms:
        raise BadInput(f"--arm {name}: no such arm is shipped; {did_you_mean(name, arms)}")
    arm = arms[name]
    kinematics = arm.kinematics
    assert kinematics is not None  # `shipped_arms` asks for it
    state = _named(robot.state, arm.state)
    if state is None:
        raise BadInput(
            f"--arm {name}: the dataset's state is {', '.join(c.name for c in robot.state)}, expected among them "
            f"{', '.join(c.name for c in arm.state)}; map the joints as state (--map), or declare the arm's kinematics "
            "in a file of your own (docs/your-recordings.md)"
        )
    action = _named(robot.action, arm.action)

    def renamed(rule: GripperRule) -> GripperRule:
        # An action of another kind says nothing of the gripper.
        vector = rule.vector if action is not None else "state"
        names = action if action is not None and vector == "action" else state
        return rule.model_copy(update={"vector": vector, "channel": names[rule.channel]})

    ends = {
        end: place.model_copy(update={"gripper": renamed(place.gripper)})
        for end, place in kinematics.end_effectors.items()
    }
    joints = {state[channel]: joint for channel, joint in kinematics.joints.items()}
    return robot.model_copy(
        update={
            "state": _declared(robot.state, arm.state, state),
            "action": robot.action if action is None else _declared(robot.action, arm.action, action),
            "action_frame": robot.action_frame if action is None else arm.action_frame,
            "kinematics": kinematics.model_copy(update={"joints": joints, "end_effectors": ends}),
            "gripper": None if arm.gripper is None else renamed(arm.gripper),
        }
    )


def is_arm(robot: Embodiment, name: str) -> bool:
    """Whether a declaration's joints mean what those of a shipped arm do, whatever its channels are called."""

    def meant(embodiment: Embodiment) -> list[str]:
        units = {channel.name: channel.unit for channel in embodiment.state}
        joints = embodiment.kinematics.joints if embodiment.kinematics is not None else {}
        return sorted(f"{joint} {units[channel]}" for channel, joint in joints.items())

    arms = shipped_arms()
    return name in arms and meant(robot) == meant(arms[name])


def copy_chain(arm: str, beside: Path) -> None:
    """Puts an arm's model file where a declaration beside it finds it: an upgrade changes no pose of what is declared.

    Raises:
        BadInput: There is another file in its place.
    """
    kinematics = load_embodiment(arm).kinematics
    assert kinematics is not None  # an arm that was declared with it has one
    source, place = chain_folder(arm) / kinematics.file, beside.parent / kinematics.file
    content = source.read_bytes()
    if place.exists() and place.read_bytes() != content:
        raise BadInput(f"{place} is another file than the one of arm {arm}: move it away")
    write_bytes(place, content)


def chain_folder(arm: str) -> Path:
    """The folder that a shipped arm's model file is relative to."""
    return shipped_embodiments()[arm].parent


def _bare(name: str) -> str:
    before = ""
    while name != before:
        before, name = name, _AROUND.sub("", name.lower())
    return name


def _named(theirs: Sequence[Channel], ours: Sequence[Channel]) -> dict[str, str] | None:
    """The arm's channel -> the dataset's; None where they are not the same."""
    bare = {_bare(channel.name): channel.name for channel in theirs}
    if all(_bare(channel.name) in bare for channel in ours):
        return {channel.name: bare[_bare(channel.name)] for channel in ours}
    if len(theirs) == len(ours) and all(NUMBERED.fullmatch(channel.name) for channel in theirs):
        return {our.name: their.name for our, their in zip(ours, theirs, strict=True)}
    return None


def _declared(theirs: Sequence[Channel], ours: Sequence[Channel], names: dict[str, str]) -> list[Channel]:
    known = {names[channel.name]: channel.model_copy(update={"name": names[channel.name]}) for channel in ours}
    return [known.get(channel.name, channel) for channel in theirs]
