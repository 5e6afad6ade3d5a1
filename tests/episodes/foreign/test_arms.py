"""A dataset's robot declared as a shipped arm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posa_vla.episodes.embodiment import UNSTATED, Channel, Embodiment, load_embodiment
from posa_vla.episodes.foreign.arms import arms_like, as_arm, chain_folder, copy_chain, shipped_arms
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.errors import BadInput

JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


def robot(state: list[str], action: list[str] | None = None) -> Embodiment:
    def channels(names: list[str]) -> list[Channel]:
        return [Channel(name=name, unit=UNSTATED) for name in names]

    return Embodiment(
        id="mine",
        simulated=False,
        cameras={},
        state=channels(state),
        action=channels(state if action is None else action),
        action_frame=UNSTATED,
        control_hz=30,
    )


@pytest.mark.parametrize("pattern", ["{}.pos", "main_{}", "follower.{}", "{}"])
def test_joints_are_known_whatever_recorders_put_around_their_names(pattern: str) -> None:
    names = [pattern.format(joint) for joint in reversed(JOINTS)]
    assert arms_like(names) == ["so101", "so101_percent"]
    declared = as_arm(robot([*names, "battery"]), "so101")
    assert [channel.name for channel in declared.state] == [*names, "battery"]
    assert declared.state[-1].low is None
    so101 = load_embodiment("so101")
    rest = np.array([[3.0, 10, 20, 30, 40, 50]], np.float32)
    expected = ForwardKinematics(so101, chain_folder("so101")).poses(rest)
    mine = ForwardKinematics(declared, chain_folder("so101")).poses(
        np.append(rest[:, ::-1], [[9]], 1).astype(np.float32)
    )
    assert np.allclose(mine, expected)
    assert declared.gripper is not None
    assert declared.gripper.channel == pattern.format("gripper")


def test_channels_that_are_only_numbered_are_the_arm_s_in_order() -> None:
    declared = as_arm(robot([f"channel_{n}" for n in range(6)], ["dx", "dy", "dz"]), "so101")
    assert declared.kinematics is not None
    assert list(declared.kinematics.joints) == [f"channel_{n}" for n in range(5)]
    # An action that is something else says nothing of the gripper.
    assert declared.gripper is not None
    assert (declared.gripper.vector, declared.gripper.channel) == ("state", "channel_5")
    assert declared.action_frame == UNSTATED


def test_two_arms_keep_a_gripper_each() -> None:
    names = [channel.name for channel in load_embodiment("aloha").state]
    assert arms_like(names) == ["aloha"]
    declared = as_arm(robot([f"{name}.pos" for name in names]), "aloha")
    assert declared.kinematics is not None
    grippers = {end: place.gripper.channel for end, place in declared.kinematics.end_effectors.items()}
    assert grippers == {"left": "left_gripper.pos", "right": "right_gripper.pos"}
    assert declared.gripper is None


def test_another_arm_s_joints_and_names_that_nobody_ships_are_refused() -> None:
    with pytest.raises(BadInput, match="the dataset's state is hip, knee, expected among them shoulder_pan"):
        as_arm(robot(["hip", "knee"]), "so101")
    with pytest.raises(BadInput, match="--arm so10: no such arm is shipped; did you mean 'so101'"):
        as_arm(robot(JOINTS), "so10")
    assert "sim_arm6" not in shipped_arms()
    assert "so101_bench" not in shipped_arms()


def test_a_declaration_has_its_own_copy_of_the_chain(tmp_path: Path) -> None:
    copy_chain("so101", tmp_path / "mine.yaml")
    ForwardKinematics(as_arm(robot(JOINTS), "so101"), tmp_path)
    copy_chain("so101", tmp_path / "mine.yaml")
    (tmp_path / "chains" / "so101.xml").write_text("<mujoco/>")
    with pytest.raises(BadInput, match="is another file than the one of arm so101: move it away"):
        copy_chain("so101", tmp_path / "mine.yaml")
