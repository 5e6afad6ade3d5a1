"""Actions as a network predicts them: relative to the state, rotations as six numbers, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from end_effector_arms import pose_arm, pose_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from training_params import quick_params

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.episodes.action_space import ActionSpace, action_space
from posa_vla.episodes.embodiment import Embodiment, load_embodiment
from posa_vla.errors import BadInput
from posa_vla.files import read_json
from posa_vla.model.action_units import ActionUnits, chunk_statistics, encoded
from posa_vla.model.config import read_config
from posa_vla.model.export import export_policy
from posa_vla.model.normalisation import Statistics
from posa_vla.model.posa_policy import PosAPolicy, initial_policy_files, load_policy
from posa_vla.model.rotations import from_matrix, from_six, to_matrix, to_six
from posa_vla.params import Params, PrepareParams
from posa_vla.policy.policy import Observation
from posa_vla.schema import parse
from posa_vla.testing import PolicyContract
from posa_vla.training.loop import train

FORMS = ("quaternion_wxyz", "quaternion_xyzw", "rotation_vector", "euler_xyz")
RELATIVE = PrepareParams(image_size=32, validation_fraction=0, actions="relative")


def relative_params(**train_changes: object) -> Params:
    return quick_params(**train_changes).model_copy(update={"prepare": RELATIVE})


def unscaled(width: int) -> Statistics:
    return Statistics(mean=[0.0] * width, std=[1.0] * width, q01=[-1.0] * width, q99=[1.0] * width)


def in_form(rotation: Rotation, form: str) -> np.ndarray:
    match form:
        case "quaternion_wxyz":
            return rotation.as_quat(scalar_first=True)
        case "quaternion_xyzw":
            return rotation.as_quat()
        case "rotation_vector":
            return rotation.as_rotvec()
    return rotation.as_euler("xyz")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), small=st.booleans())
def test_a_rotation_survives_six_numbers_in_every_form(form: str, seed: int, small: bool) -> None:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(5, rng=rng)
    if small:
        rotation = Rotation.from_rotvec(rotation.as_rotvec() * 1e-9)
    values = torch.from_numpy(in_form(rotation, form))
    matrix = to_matrix(values, form)  # type: ignore[arg-type]  # parametrised by its literals
    np.testing.assert_allclose(matrix.numpy(), rotation.as_matrix(), atol=1e-9)
    back = from_matrix(from_six(to_six(matrix)), form, values)  # type: ignore[arg-type]  # likewise
    np.testing.assert_allclose(to_matrix(back, form).numpy(), rotation.as_matrix(), atol=1e-6)  # type: ignore[arg-type]  # likewise
    np.testing.assert_allclose(back.numpy(), values.numpy(), atol=1e-6)


def test_angles_come_back_within_the_turn_that_they_were_recorded_in() -> None:
    angles = torch.tensor([[3.5, 0.2, -4.0]])
    found = from_matrix(to_matrix(angles, "euler_xyz"), "euler_xyz", torch.tensor([[3.1, 0.0, -3.5]]))
    torch.testing.assert_close(found, angles)


def test_a_pitch_beyond_a_right_angle_comes_back_as_it_was_recorded() -> None:
    angles = torch.tensor([[0.3, 1.8, -2.0], [0.3, -1.7, 0.1]])
    found = from_matrix(to_matrix(angles, "euler_xyz"), "euler_xyz", angles + 0.1)
    torch.testing.assert_close(found, angles, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [3.18, 6.0, 6.2, 7.0])
def test_a_vector_comes_back_within_the_turn_that_it_was_recorded_in(length: float) -> None:
    vector = torch.tensor([[length, 0.0, 0.0]], dtype=torch.float64)
    found = from_matrix(to_matrix(vector, "rotation_vector"), "rotation_vector", vector + 0.05)
    torch.testing.assert_close(found, vector, atol=1e-2, rtol=0)


@pytest.mark.parametrize("actions", ["absolute", "relative"])
def test_a_gripper_that_points_down_is_no_jump_away_from_where_it_is(actions: str) -> None:
    space = action_space(pose_arm(), actions)  # type: ignore[arg-type]  # parametrised by its literals
    units = ActionUnits(unscaled(10), space, [0.0] * 8)
    for w in (-0.02, 0.02):
        pose = torch.tensor([[0.1, 0.2, 0.3, w, 0.9998, 0.0, 0.0, 0.5]])
        torch.testing.assert_close(units.back(units(pose[:, None], pose), pose)[:, 0], pose, atol=1e-4, rtol=0)


def test_six_numbers_of_any_length_are_a_rotation() -> None:
    matrix = from_six(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 7)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(50))


def test_the_test_bench_s_joints_are_relative_and_its_gripper_is_not() -> None:
    bench = load_embodiment("so101_bench")
    space = action_space(bench, "relative")
    assert space == ActionSpace(relative_to=[0, 1, 2, 3, 4, None], rotations=[])
    assert action_space(bench, "absolute") is None
    state = torch.arange(12.0).view(2, 6)
    actions = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    inside = encoded(space, actions, state)
    torch.testing.assert_close(inside[..., :5], actions[..., :5] - state[:, None, :5])
    torch.testing.assert_close(inside[..., 5], actions[..., 5])
    units = ActionUnits(unscaled(6), space, [0.0] * 6)
    torch.testing.assert_close(units.back(units(actions, state), state), actions)


@pytest.mark.parametrize("actions", ["absolute", "relative"])
@pytest.mark.parametrize("form", ["quaternion_wxyz", "euler_xyz"])
def test_poses_are_predicted_as_six_numbers_and_come_back(form: str, actions: str) -> None:
    space = action_space(pose_arm(form), actions)  # type: ignore[arg-type]  # parametrised by its literals
    assert space is not None
    assert space.width == 3 + 1 + 6
    rng = np.random.default_rng(0)

    def rows(count: int) -> torch.Tensor:
        turns = in_form(Rotation.random(count, rng=rng), form) * (180 / np.pi if form == "euler_xyz" else 1)
        return torch.from_numpy(np.column_stack([rng.normal(size=(count, 3)), turns, rng.random(count)])).float()

    state, chunk = rows(4), rows(12).view(4, 3, -1)
    inside = encoded(space, chunk, state)
    if actions == "relative":
        torch.testing.assert_close(inside[..., :3], chunk[..., :3] - state[:, None, :3])
        stay = encoded(space, state[:, None], state)[..., 4:]
        torch.testing.assert_close(stay, torch.tensor([1.0, 0, 0, 0, 1, 0]).expand_as(stay), atol=1e-5, rtol=0)
    units = ActionUnits(unscaled(10), space, [0.0] * chunk.shape[-1])
    back = units.back(units(chunk, state), state)
    torch.testing.assert_close(back[..., [0, 1, 2, -1]], chunk[..., [0, 1, 2, -1]])
    radians = torch.pi / 180 if form == "euler_xyz" else 1.0
    turned = [to_matrix(x[..., 3:-1] * radians, form) for x in (back, chunk)]  # type: ignore[arg-type]  # likewise
    torch.testing.assert_close(*turned, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": [{"name": "elbow", "unit": "rad"}]}, "nothing to be relative to: prepare.actions=absolute"),
        ({"state": [{"name": "x", "unit": "mm"}]}, "x of embodiment test is in m in the action and in mm in the state"),
    ],
)
def test_actions_with_nothing_to_be_relative_to_are_refused(change: dict[str, object], words: str) -> None:
    arm = load_embodiment("sim_arm6").model_dump(mode="json", exclude={"kinematics", "arm", "gripper"})
    action = [{"name": "x", "unit": "m"}, {"name": "gripper", "unit": "1"}]
    embodiment = parse(Embodiment, {**arm, "id": "test", "action": action, **change}, "test")
    with pytest.raises(BadInput, match=words):
        action_space(embodiment, "relative")


@pytest.mark.parametrize(
    ("rotations", "words"),
    [
        ([{"form": "quaternion_wxyz", "channels": ["qw", "qx", "qy"]}], "quaternion_wxyz has 4 channels, got qw"),
        ([{"form": "quaternion_wxyz", "channels": ["qw", "qx", "qy", "q"]}], "action has no channel 'q'"),
        ([{"form": "euler_xyz", "channels": ["x", "y", "z"]}], "have unit m, expected rad or deg"),
        ([{"form": "quaternion_wxyz", "channels": ["qw", "qx", "qy", "qz"]}] * 2, "rotations name qw, qx"),
    ],
)
def test_rotations_that_are_none_are_refused(rotations: list[dict[str, object]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse(Embodiment, {**pose_arm().model_dump(mode="json"), "rotations": rotations}, "test")


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poses") / "data"
    rng = np.random.default_rng(0)
    pack_episodes([pose_episode(rng) for _ in range(3)], pose_arm(), RELATIVE, folder)
    return folder


def test_statistics_are_those_of_relative_actions_over_the_chunk(poses: Path) -> None:
    space = action_space(pose_arm(), "relative")
    assert space is not None
    data = PackedDataset(poses, "train", 4)
    found = chunk_statistics(data, space, [0.01] * 8)
    state, action, last = data._state.numpy(), data._action.numpy(), data._last.numpy()
    ahead = [action[t + h, 0] - state[t, 0] for t in range(len(state)) for h in range(4) if t + h <= last[t]]
    assert found.mean[0] == pytest.approx(np.mean(ahead), rel=1e-5)
    assert found.std[0] == pytest.approx(np.std(ahead), rel=1e-5)
    assert found.floor == pytest.approx([0.001] * 3 + [0.01] + [0.002] * 6)
    # Absolute poses drift over an episode; what a chunk adds to the state does not.
    assert found.std[0] < 0.5 * read_json(poses / "normalisation.json")["action"]["std"][0]


@pytest.fixture(scope="module")
def policy_folder(poses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy, but for the head's last layer: a fresh one says the mean alone."""
    (files := tmp_path_factory.mktemp("relative") / "policy").mkdir()
    initial_policy_files(poses, relative_params(), files, seed=1)
    weights = load_file(files / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    weights["flow.out.weight"] = torch.randn(weights["flow.out.weight"].shape, generator=generator) * 0.1
    save_file(weights, files / "model.safetensors")
    return files


def seen(x: float = 0.2) -> Observation:
    images = {role: np.full((32, 32, 3), 90, np.uint8) for role in ("head", "wrist")}
    return Observation(images, np.array([x, 0, 0, 0.1, 0.99, 0, 0, 1], np.float32), "pick up the red cube")


class TestRelativePolicy(PolicyContract):
    """Executors, simulators and robots see absolute physical actions, as of any policy."""

    @pytest.fixture
    def policy(self, policy_folder: Path) -> PosAPolicy:
        return load_policy(policy_folder, "d" * 64)

    @pytest.fixture
    def embodiment(self, policy: PosAPolicy) -> Embodiment:
        return policy.embodiment

    @pytest.fixture
    def observation(self) -> Observation:
        return seen()


def test_the_bundle_says_what_its_network_predicts(policy_folder: Path) -> None:
    config = read_config(policy_folder)
    assert (config.schema_version, config.action_dim, config.chunk_dim) == (5, 8, 10)
    assert config.actions == action_space(pose_arm(), "relative")
    assert len(read_json(policy_folder / "normalisation.json")["action"]["mean"]) == 10


def test_quaternions_have_length_one_and_face_the_state(policy_folder: Path) -> None:
    chunk = load_policy(policy_folder, "d").act([seen()], seed=3).actions[0]
    quaternions = chunk[:, 3:7]
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1, atol=1e-4)
    assert (quaternions @ seen().state[3:7] > 0).all()


def test_relative_actions_are_exported_too(policy_folder: Path, tmp_path: Path) -> None:
    card = export_policy(load_policy(policy_folder, "d" * 64), policy_folder, tmp_path / "p.pt2", 1)
    assert card.largest_difference <= card.tolerance
    assert (card.inputs[-1].shape, card.outputs[0].shape) == ([1, 8, 10], [1, 8, 8])


def test_a_training_on_relative_actions_learns_that_the_arm_stays_near(poses: Path, tmp_path: Path) -> None:
    folder = train(poses, relative_params(steps=30, anchor_only_steps=0), tmp_path / "out")
    policy = load_policy(folder, "d").with_flow(None, 0.0)
    # Far from where the demonstrations were, the action follows the state.
    near, far = (policy.act([seen(x)]).actions[0, 0, 0] for x in (0.2, 0.8))
    assert far - near == pytest.approx(0.6, abs=0.15)
