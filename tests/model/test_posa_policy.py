"""The policy behind its face: files, checks, determinism."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_embodiment, make_episode
from manifests import write_manifest
from packed_data import observation as synthetic_observation
from safetensors.numpy import load_file

from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.media.images import fit_images
from posa_vla.errors import BadInput
from posa_vla.files import write_json
from posa_vla.model.posa_policy import POLICY_FILES, PosAPolicy, initial_policy_files, load_policy
from posa_vla.params import ModelParams, Params, PrepareParams, TargetParams
from posa_vla.policy.policy import Observation
from posa_vla.schema import parse
from posa_vla.testing import PolicyContract

CHANNEL = {"unit": "m", "low": -0.5, "high": 0.5}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    data, out = tmp_path / "data", tmp_path / "policy"
    data.mkdir()
    out.mkdir()
    embodiment = {
        "id": "test-arm",
        "simulated": True,
        "cameras": {"head": {"source": "head"}, "wrist": {"source": "wrist", "moving": True}},
        "state": [{"name": f"s{i}", **CHANNEL} for i in range(4)],
        "action": [{"name": f"a{i}", **CHANNEL} for i in range(3)],
        "action_frame": "base",
        "control_hz": 10,
    }
    write_manifest(data, parse(Embodiment, embodiment, "the test's"))
    statistics = {
        name: {"mean": [0.1] * n, "std": [0.5] * n, "q01": [-1.0] * n, "q99": [1.0] * n}
        for name, n in (("state", 4), ("action", 3))
    }
    write_json(data / "normalisation.json", statistics)
    model = ModelParams(grid=8, width=16, flow_layers=1, flow_width=16, flow_heads=2, flow_steps=2)
    params = Params(target="t", targets={"t": TargetParams(embodiment="x", task="pick")}, model=model)
    initial_policy_files(data, params, out, seed=3)
    return out


def observation(**changes: object) -> Observation:
    values: dict[str, object] = {
        "images": {role: np.full((32, 32, 3), 90, np.uint8) for role in ("head", "wrist")},
        "state": np.zeros(4, np.float32),
        "instruction": "pick up the red cube",
    }
    return Observation(**(values | changes))  # type: ignore[arg-type]  # a test's shorthand


class TestPosAPolicy(PolicyContract):
    @pytest.fixture
    def policy(self, files: Path) -> PosAPolicy:
        return load_policy(files, "d" * 64)

    @pytest.fixture
    def embodiment(self, policy: PosAPolicy) -> Embodiment:
        return policy.embodiment

    @pytest.fixture
    def observation(self) -> Observation:
        return observation()


def test_it_has_an_attention_for_each_camera(files: Path) -> None:
    chunk = load_policy(files, "d").act([observation(), observation()], attention=True)
    assert chunk.attention is not None
    assert chunk.attention["wrist"].shape == (2, 2, 8, 8)


def test_same_files_same_actions_and_another_seed_others(files: Path) -> None:
    first, second = load_policy(files, "d"), load_policy(files, "d")
    assert np.array_equal(first.act([observation()], seed=5).actions, second.act([observation()], seed=5).actions)
    assert not np.array_equal(first.act([observation()], seed=5).actions, first.act([observation()], seed=6).actions)


def test_flow_steps_and_start_noise_are_of_one_way_of_sampling(files: Path) -> None:
    policy = load_policy(files, "d")
    for parameter in policy.network[0].flow.parameters():  # an untrained flow stands still
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    assert policy.flow_steps == 2
    plain = policy.act([observation()], seed=5).actions
    for way, same in (((None, 1.0), True), ((2, 1.0), True), ((3, 1.0), False), ((None, 0.5), False)):
        other = policy.with_flow(*way).act([observation()], seed=5).actions
        assert np.array_equal(other, plain) == same, way
    still = policy.with_flow(None, 0.0)
    assert np.array_equal(still.act([observation()], seed=5).actions, still.act([observation()], seed=6).actions)
    assert np.array_equal(policy.act([observation()], seed=5).actions, plain), "the first one is as it was"


def test_a_batch_gives_what_single_observations_give(files: Path) -> None:
    policy = load_policy(files, "d")
    other = observation(state=np.ones(4, np.float32))
    together = policy.act([observation(), other], attention=True).attention
    alone = policy.act([other], attention=True).attention
    assert together is not None
    assert alone is not None
    np.testing.assert_allclose(together["head"][1], alone["head"][0], atol=1e-5)


def _pictures(height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(height * width)
    return {role: rng.integers(0, 256, (height, width, 3), np.uint8) for role in ("head", "wrist")}


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (16, 16), (480, 640), (3, 200)])
def test_a_picture_of_any_size_is_seen_as_it_was_prepared(files: Path, height: int, width: int) -> None:
    policy, pictures = load_policy(files, "d"), _pictures(height, width)
    prepared = {role: fit_images(image[None], 32)[0] for role, image in pictures.items()}
    given = policy.act([observation(images=pictures)], seed=1, attention=True)
    expected = policy.act([observation(images=prepared)], seed=1, attention=True)
    np.testing.assert_array_equal(given.actions, expected.actions)
    assert given.attention is not None
    assert expected.attention is not None
    np.testing.assert_array_equal(given.attention["wrist"], expected.attention["wrist"])


def test_what_was_packed_is_what_the_policy_sees_of_the_same_recording(files: Path, tmp_path: Path) -> None:
    recorded = make_episode(np.random.default_rng(0), size=48)
    pack_episodes([recorded], make_embodiment(), PrepareParams(image_size=32, validation_fraction=0), tmp_path / "made")
    rows = load_file(tmp_path / "made" / "train.safetensors")
    policy, roles = load_policy(files, "d"), ("head", "wrist")
    packed = observation(images={role: rows[f"images.{role}"][3] for role in roles})
    seen = observation(images={role: recorded.cameras[role].images[3] for role in roles})
    np.testing.assert_array_equal(policy.act([seen]).actions, policy.act([packed]).actions)


def test_cameras_and_observations_of_different_sizes_share_a_batch(files: Path) -> None:
    policy = load_policy(files, "d")
    mixed = {"head": _pictures(48, 64)["head"], "wrist": _pictures(32, 32)["wrist"]}
    batch = [observation(images=mixed), observation(images=_pictures(100, 90))]
    prepared = [
        observation(images={role: fit_images(image[None], 32)[0] for role, image in seen.images.items()})
        for seen in batch
    ]
    np.testing.assert_array_equal(policy.act(batch, seed=2).actions, policy.act(prepared, seed=2).actions)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": {"head": np.zeros((32, 32, 3), np.uint8)}}, "lacks camera 'wrist'"),
        ({"images": {r: np.zeros((32, 32, 3), np.float32) for r in ("head", "wrist")}}, "float32"),
        ({"images": {r: np.zeros((32, 32), np.uint8) for r in ("head", "wrist")}}, r"uint8 \(32, 32\), expected uint8"),
        ({"images": {r: np.zeros((32, 32, 4), np.uint8) for r in ("head", "wrist")}}, r"expected uint8 \(H, W, 3\)"),
        ({"images": {r: np.zeros((0, 32, 3), np.uint8) for r in ("head", "wrist")}}, "not empty"),
        ({"images": {r: [[0]] for r in ("head", "wrist")}}, "camera 'head' is list"),
        ({"state": [0.0] * 4}, "state is list"),
        ({"state": np.array([1e300, 0, 0, 0])}, "not finite"),
    ],
)
def test_observations_that_do_not_fit_are_named(files: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        load_policy(files, "d").act([observation(**changes)])


@pytest.mark.parametrize(
    ("committed", "words"),
    [
        (np.zeros((1, 2, 1), np.float32), r"expected float32 \(2, 2, 3\)"),
        (np.zeros((2, 2, 4), np.float32), r"expected float32 \(2, 2, 3\)"),
        (np.zeros((2, 9, 3), np.float32), "9 actions are committed, expected at most the chunk's 8"),
        (np.full((2, 2, 3), np.nan, np.float32), "committed is not finite"),
    ],
)
def test_committed_actions_that_do_not_fit_are_named(files: Path, committed: np.ndarray, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        load_policy(files, "d").act([observation(), observation()], committed=committed)


@pytest.mark.parametrize("kind", ["state", "action"])
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", ["normalisation.json", "embodiment.json"])
def test_channels_of_another_robot_are_refused(files: Path, name: str, kind: str, count: int) -> None:
    value = json.loads((files / name).read_text())
    if name == "normalisation.json":
        value[kind] = {key: [0.5] * count for key in value[kind]}
    else:
        value[kind] = [{"name": f"x{i}", **CHANNEL} for i in range(count)]
    write_json(files / name, value)
    with pytest.raises(BadInput, match=f"{name} has {count} {kind} channels"):
        load_policy(files, "d")


def test_weights_of_another_architecture_are_refused(files: Path) -> None:
    config = json.loads((files / "config.json").read_text())
    config["params"]["width"] = 32
    write_json(files / "config.json", config)
    with pytest.raises(BadInput, match=r"does not fit config\.json"):
        load_policy(files, "d")


def test_a_policy_of_the_first_version_acts_as_it_did() -> None:
    golden = Path(__file__).parents[1] / "golden"
    expected = json.loads((golden / "policy-1-expected.json").read_text())
    chunk = load_policy(golden / "policy-1", "d").act([synthetic_observation()], seed=7, attention=True)
    np.testing.assert_allclose(chunk.actions, expected["actions"], atol=1e-4)
    assert chunk.attention is not None
    np.testing.assert_allclose(chunk.attention["head"], expected["attention"], atol=1e-4)


@pytest.mark.parametrize("name", POLICY_FILES)
def test_a_truncated_or_missing_file_is_named(files: Path, name: str) -> None:
    whole = (files / name).read_bytes()
    (files / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=name):
        load_policy(files, "d")
    (files / name).unlink()
    with pytest.raises(BadInput, match=name):
        load_policy(files, "d")
