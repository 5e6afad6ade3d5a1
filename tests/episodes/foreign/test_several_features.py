"""State and action that lie in several features: what is proposed can be pasted, and what it leaves out is said."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lerobot_datasets import FPS, LENGTHS, edit_info, make_v21, reader_of, trajectory
from taking_in import change_table, take_in

from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.mapping import map_features, parse_map
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

JOINTS = ["left_shoulder_pan.pos", "left_elbow_flex.pos", "left_gripper.pos", "right_gripper.pos"]
# Feature -> the vector that it is cut from, and which channels; a number stands for a column of single numbers.
A_FEATURE_A_JOINT = {
    f"{side}.{joint}": (vector, channel)
    for channel, joint in enumerate(JOINTS)
    for side, vector in (("observation", "observation.state"), ("action", "action"))
}
PARTS = {
    "observation.states.effector.force": ("observation.state", slice(0, 2)),
    "observation.states.end.position": ("observation.state", slice(0, 3)),
    "observation.states.joint.position": ("observation.state", slice(0, 3)),
    "observation.states.effector.position": ("observation.state", slice(3, 4)),
    "actions.joint.position": ("action", slice(0, 3)),
    "actions.effector.position": ("action", slice(3, 4)),
}


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def cut(folder: Path, pieces: Mapping[str, tuple[str, int | slice]]) -> Path:
    """Replaces state and action of a dataset by pieces of them."""

    def change(table: pa.Table) -> pa.Table:
        for name, (vector, channels) in pieces.items():
            values = np.array(table[vector].to_pylist(), np.float32)[:, channels]
            table = table.append_column(name, pa.array(values.tolist()))
        return table.drop(["observation.state", "action"])

    for number in range(len(LENGTHS)):
        change_table(folder, number, change)
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    kept = {name: feature for name, feature in features.items() if name not in {"observation.state", "action"}}
    for name, (_, channels) in pieces.items():
        width = 1 if isinstance(channels, int) else channels.stop - channels.start
        kept[name] = {"dtype": "float32", "shape": [width], "names": None}
    edit_info(folder, features=kept)
    return folder


def proposed(message: str) -> list[str]:
    """The values of the `--map` flags that a message prints, as a shell would read them."""
    found = re.search(r"add: (.*?)(\. Not among them|$)", message)
    assert found, message
    words = shlex.split(found[1])
    assert words[::2] == ["--map"] * (len(words) // 2)
    return words[1::2]


def asked(folder: Path, *mapping: str, embodiment: Embodiment | None = None) -> str:
    with pytest.raises(BadInput) as error:
        map_features(open_source(folder), parse_map(list(mapping)), embodiment)
    return str(error.value)


@pytest.mark.parametrize(("pieces", "names"), [(A_FEATURE_A_JOINT, JOINTS), (PARTS, None)])
def test_a_proposal_joins_every_channel_and_works_as_it_is_printed(tmp_path, store, pieces, names):
    folder = cut(make_v21(tmp_path / "dataset", video=False), pieces)
    flags = proposed(asked(folder))
    assert take_in(store, folder, *flags).new == len(LENGTHS)
    for number, episode in enumerate(store.episodes()):
        state, action = trajectory(number, LENGTHS[number])
        np.testing.assert_array_equal(episode.state, state)
        np.testing.assert_array_equal(episode.action, action)
    embodiment = reader_of(folder, *flags).embodiment
    names = names or [*(f"joint.position_{i}" for i in range(3)), "effector.position"]
    assert [c.name for c in embodiment.state] == [c.name for c in embodiment.action] == names
    assert not validate(store.root).quarantined


def test_what_a_proposal_leaves_out_it_says_and_the_store_keeps(tmp_path, store):
    folder = cut(make_v21(tmp_path / "dataset", video=False), PARTS)
    message = asked(folder)
    left = ["observation.states.effector.force (2)", "observation.states.end.position (3)"]
    assert message.endswith(f"Not among them: {', '.join(left)}")
    take_in(store, folder, *proposed(message))
    assert all({name.split()[0] for name in left} == set(episode.extra) for episode in store.episodes())


def test_features_are_joined_in_the_order_that_is_said(tmp_path, store):
    folder = cut(make_v21(tmp_path / "dataset", video=False), PARTS)
    joined = "observation.states.effector.position,observation.states.joint.position"
    take_in(store, folder, f"state={joined}", "action=actions.effector.position, actions.joint.position")
    for number, episode in enumerate(store.episodes()):
        np.testing.assert_array_equal(episode.state, np.roll(trajectory(number, LENGTHS[number])[0], 1, axis=1))


def test_a_pose_may_lie_in_two_features_and_the_gripper_in_the_state_too(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    for number in range(3):
        change_table(
            folder,
            number,
            lambda t: t.append_column("ee.xyz", pa.array([[0.1, 0.2, 0.3]] * len(t))).append_column(
                "ee.quat", pa.array([[1.0, 0.0, 0.0, 0.0]] * len(t))
            ),
        )
        change_table(folder, number, lambda t: t.append_column("opening", pa.array([0.5] * len(t), pa.float32())))
    edit_info(folder, features=None)
    pose = ["end_effector=ee.xyz,ee.quat", "state=observation.state,opening", "opening=gripper"]
    take_in(store, folder, *pose)
    for episode in store.episodes():
        assert episode.end_effector is not None
        np.testing.assert_allclose(episode.end_effector[0], [0.1, 0.2, 0.3, 1, 0, 0, 0])
        assert episode.gripper is not None
        assert (episode.state.shape[1], set(episode.gripper.tolist())) == (5, {0.5})


def test_channels_of_one_name_are_told_apart_by_their_features(tmp_path):
    pieces = {
        f"{side}.{arm}_arm": (vector, part)
        for arm, part in (("left", slice(0, 2)), ("right", slice(2, 4)))
        for side, vector in (("observation.qpos", "observation.state"), ("action", "action"))
    }
    folder = cut(make_v21(tmp_path / "dataset", video=False), pieces)
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    edit_info(folder, features={n: {**f, "names": ["lift", "turn"][: f["shape"][0]]} for n, f in features.items()})
    reader = reader_of(folder, *proposed(asked(folder)))
    names = ["left_arm.lift", "left_arm.turn", "right_arm.lift", "right_arm.turn"]
    assert [channel.name for channel in reader.embodiment.state] == names


def test_joined_features_in_another_order_than_declared_are_refused(tmp_path):
    folder = cut(make_v21(tmp_path / "dataset", video=False), A_FEATURE_A_JOINT)
    flags = proposed(asked(folder))
    declared = reader_of(folder, *flags).embodiment
    assert reader_of(folder, *flags, embodiment=declared)
    turned = ",".join(reversed(flags[0].removeprefix("state=").split(",")))
    with pytest.raises(BadInput, match=r"has the channels right_gripper.pos, left_gripper.pos.*declares left_shoulder"):
        reader_of(folder, f"state={turned}", flags[1], embodiment=declared)
    with pytest.raises(BadInput, match=r"has 2 channels \(left_gripper.pos, right_gripper.pos\).*declares 4"):
        reader_of(
            folder, "state=observation.left_gripper.pos,observation.right_gripper.pos", flags[1], embodiment=declared
        )


@pytest.mark.parametrize(
    ("pieces", "flags"),
    [
        # A vector by a name that says nothing: one is proposed, the other named.
        (
            {"proprio": ("observation.state", slice(0, 4)), "x": ("action", slice(0, 4))},
            ["proprio=state", "x=action"],
        ),
        # Names that a shell would take apart.
        (
            {"状态 position": ("observation.state", slice(0, 4)), "actions[0]": ("action", slice(0, 4))},
            ["状态 position=state", "actions[0]=action"],
        ),
        # A comma cannot stand in a list.
        (
            {"state,all": ("observation.state", slice(0, 4)), "a=cmd": ("action", slice(0, 4))},
            ["state,all=state", "a=cmd=action"],
        ),
        # Cartesian and joint positions are two descriptions of one arm.
        (
            {
                "action.cartesian_position": ("action", slice(0, 3)),
                "action.gripper_position": ("action", slice(3, 4)),
                "action.joint_position": ("action", slice(0, 3)),
                "action.joint_velocity": ("action", slice(0, 3)),
                "robotQpos": ("observation.state", slice(0, 4)),
                "robotQvel": ("observation.state", slice(0, 4)),
            },
            ["robotQpos=state", "action=action.gripper_position,action.joint_position"],
        ),
    ],
)
def test_every_proposal_can_be_pasted(tmp_path, store, pieces, flags):
    folder = cut(make_v21(tmp_path / "dataset", video=False), pieces)
    assert proposed(asked(folder)) == flags
    assert take_in(store, folder, *flags).new == len(LENGTHS)


def test_cameras_and_parts_are_asked_for_in_one_message(tmp_path, store):
    cameras = ("observation.images.cam high", "observation.images.cam_left_wrist")
    folder = cut(make_v21(tmp_path / "dataset", cameras=cameras, video=False), PARTS)
    assert take_in(store, folder, *proposed(asked(folder))).new == len(LENGTHS)


def one_camera_too_many(folder: Path) -> str:
    value = {"id": "arm", "simulated": False, "action_frame": "joint", "control_hz": FPS, "state": [], "action": []}
    cameras = {role: {"source": role} for role in ("head", "wrist")}
    return asked(make_v21(folder, video=False), embodiment=Embodiment.model_validate({**value, "cameras": cameras}))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (lambda d: asked(cut(make_v21(d), {"observation.state.x": ("observation.state", 0)})), "may be the action"),
        (lambda d: asked(cut(make_v21(d), {})), "it has no other numbers"),
        (one_camera_too_many, "cameras head, wrist are not declared.*too few: another embodiment file"),
    ],
)
def test_where_no_flag_would_do_none_is_printed(tmp_path, message, says):
    text = message(tmp_path / "dataset")
    assert re.search(says, text)
    assert not re.search(r"--map|FEATURE|ROLE", text)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["state=a,,b"], "expected FEATURE=PART"),
        (["head=a,b"], "expected FEATURE=PART"),
        (["state=a,a"], "a is mapped twice"),
        (["state=a,b", "action=a"], "a is mapped twice"),
        (["a=head", "a=wrist"], "a is mapped twice"),
        (["a=state", "b=state"], "stand in one --map, in order"),
    ],
)
def test_a_mapping_of_another_form_is_bad_input(mapping, message):
    with pytest.raises(BadInput, match=message):
        parse_map(mapping)


def test_a_mapping_is_read_as_it_always_was(tmp_path):
    assert parse_map(["action=state", "observation.qpos=action"]) == {
        "state": ["action"],
        "action": ["observation.qpos"],
    }
    # A camera may have the name of a part.
    folder = make_v21(tmp_path / "dataset", cameras=("gripper",), video=False)
    assert map_features(open_source(folder), parse_map(["gripper=wrist"]), None).cameras == {"wrist": "gripper"}
