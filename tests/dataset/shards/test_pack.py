from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from posa_vla.dataset.labels import anchor_labels
from posa_vla.dataset.shards.manifest import SplitCount
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.shards.tensor_file import TensorFileWriter
from posa_vla.dataset.split import few_held_out, require_scenes, split_of
from posa_vla.errors import BadInput
from posa_vla.files import read_json, sha256_tree
from posa_vla.params import PrepareParams

EMBODIMENT = make_embodiment()
PARAMS = PrepareParams(validation_fraction=0.3, image_size=16)


def some_episodes(count: int = 8, size: int = 16):
    rng = np.random.default_rng(0)
    colours = ["red", "blue", "green"]
    return [
        make_episode(rng, frames=4 + i, size=size, instruction=f"pick up the {colours[i % 3]} cube")
        for i in range(count)
    ]


def tensors(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)


def test_every_frame_of_every_episode_is_in_its_split_with_its_labels(tmp_path):
    episodes = some_episodes()
    manifest = pack_episodes(iter(episodes), EMBODIMENT, PARAMS, tmp_path / "packed", source_digest="s")
    for split in ("train", "validation"):
        packed = tensors(tmp_path / "packed" / f"{split}.safetensors")
        own = [(n, e) for n, e in enumerate(episodes) if split_of(e, 0.3) == split]
        assert own
        assert manifest.splits[split] == SplitCount(episodes=len(own), frames=sum(len(e) for _, e in own))
        start = 0
        for number, episode in own:
            rows = slice(start, start + len(episode))
            start += len(episode)
            np.testing.assert_array_equal(packed["images.wrist"][rows], episode.cameras["wrist"].images)
            np.testing.assert_array_equal(packed["state"][rows], episode.state)
            np.testing.assert_array_equal(packed["action"][rows], episode.action)
            labels = anchor_labels(episode, EMBODIMENT)["wrist"]
            np.testing.assert_array_equal(packed["anchor_points.wrist"][rows], labels.points)
            np.testing.assert_array_equal(packed["anchor_valid.wrist"][rows], labels.valid)
            assert packed["frame"][rows].tolist() == list(range(len(episode)))
            assert set(packed["length"][rows]) == {len(episode)}
            assert set(packed["episode"][rows]) == {number}
            assert {manifest.captions[i] for i in packed["caption"][rows]} == {episode.instruction}
        assert len(packed["state"]) == start


def test_statistics_are_of_the_training_frames_alone(tmp_path):
    episodes = some_episodes()
    pack_episodes(episodes, EMBODIMENT, PARAMS, tmp_path / "packed")
    train = np.concatenate([e.state for e in episodes if split_of(e, 0.3) == "train"])
    statistics = read_json(tmp_path / "packed/normalisation.json")["state"]
    np.testing.assert_allclose(statistics["mean"], train.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(statistics["std"], train.std(axis=0), atol=1e-7)
    np.testing.assert_allclose(statistics["q99"], np.quantile(train, 0.99, axis=0), atol=1e-7)


def test_the_same_episodes_give_the_same_bytes(tmp_path):
    for name in "ab":
        pack_episodes(some_episodes(), EMBODIMENT, PARAMS, tmp_path / name)
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_nothing_held_out_is_an_empty_shard(tmp_path):
    pack_episodes(
        some_episodes(2), EMBODIMENT, PrepareParams(validation_fraction=0, image_size=16), tmp_path / "packed"
    )
    assert tensors(tmp_path / "packed/validation.safetensors")["images.head"].shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: replace(e, fps=5.0), "at 5.0 Hz, the ones before at 10.0 Hz"),
        (lambda e: replace(e, embodiment="other"), "'other', expected 'test_arm'"),
        (lambda e: replace(e, cameras={"top": e.cameras["head"]}), "declares"),
        (lambda e: replace(e, state=e.state[:, :1]), "state has rows"),
    ],
)
def test_an_episode_unlike_the_others_is_bad_input_and_nothing_is_left(tmp_path, change, message):
    first, second = some_episodes(2)
    with pytest.raises(BadInput, match=message):
        pack_episodes(
            [first, change(second)],
            EMBODIMENT,
            PrepareParams(validation_fraction=0, image_size=16),
            tmp_path / "packed",
        )
    assert list(tmp_path.iterdir()) == []


def test_images_of_any_size_are_fitted_into_the_square_and_the_anchors_with_them(tmp_path):
    wide, square = make_episode(np.random.default_rng(0), size=32), make_episode(np.random.default_rng(1), size=16)
    head = wide.cameras["head"]
    track = replace(head, images=np.ascontiguousarray(head.images[:, 8:24]))  # 32 wide, 16 high
    wide = replace(wide, cameras={**wide.cameras, "head": track})
    params = PrepareParams(validation_fraction=0, image_size=16)
    pack_episodes([wide, square], EMBODIMENT, params, tmp_path / "packed")
    packed = tensors(tmp_path / "packed/train.safetensors")
    images = packed["images.head"][: len(wide)]
    assert not images[:, :4].any()
    assert not images[:, 12:].any()
    halved = track.images.reshape(len(wide), 8, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(images[:, 4:12] - halved).max() <= 1
    labels = anchor_labels(wide, EMBODIMENT)["head"]
    assert labels.valid.any()
    expected = labels.points / 2 + np.where(labels.valid[..., None], [0.0, 4.0], 0.0)
    np.testing.assert_allclose(packed["anchor_points.head"][: len(wide)], expected, atol=1e-4)
    np.testing.assert_array_equal(packed["images.head"][len(wide) :], square.cameras["head"].images)


def test_no_training_episode_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="no training episodes"):
        pack_episodes([], EMBODIMENT, PARAMS, tmp_path / "packed")


@given(st.integers(0, 1000), st.floats(0, 0.99))
def test_episodes_of_one_scene_fall_on_one_side(seed, fraction):
    scene = {"task": "pick", "seed": seed}
    rng = np.random.default_rng(0)
    one, other = (make_episode(rng, frames=2, size=4, cameras=(), scene=scene) for _ in range(2))
    assert split_of(one, fraction) == split_of(other, fraction)


def test_the_held_out_share_is_the_one_asked_for():
    rng = np.random.default_rng(0)
    held = [split_of(make_episode(rng, frames=1, cameras=()), 0.2) == "validation" for _ in range(600)]
    assert 0.13 < np.mean(held) < 0.27


@pytest.mark.parametrize(
    ("counts", "fraction", "held"),
    [
        ((10,), 0.05, [1]),
        ((1,), 0.05, [0]),
        ((12, 12), 0.2, [2, 3]),
        ((18, 9, 9), 0.1, [1, 1, 2]),
        ((4, 4), 0, [0, 0]),
        ((3,), 0.999, [3]),
    ],
)
def test_of_few_episodes_the_share_is_counted_and_every_instruction_has_its_part(counts, fraction, held):
    rng = np.random.default_rng(1)
    episodes = [
        make_episode(rng, frames=2, size=4, cameras=(), instruction=f"task {task}")
        for task, count in enumerate(counts)
        for _ in range(count)
    ]
    chosen = few_held_out(episodes, fraction)
    sides = [(e.instruction, split_of(e, fraction, chosen)) for e in episodes]
    found = [sides.count((f"task {task}", "validation")) for task in range(len(counts))]
    assert sorted(found) == held
    assert few_held_out(reversed(episodes), fraction) == chosen


def test_a_scene_that_was_recorded_often_is_one_and_many_episodes_are_left_to_the_hash():
    rng = np.random.default_rng(1)
    often = [make_episode(rng, frames=2, size=4, cameras=(), scene={"seed": seed % 3}) for seed in range(12)]
    chosen = few_held_out(often, 0.3)
    assert [split_of(e, 0.3, chosen) for e in often].count("validation") == 4
    assert few_held_out((make_episode(rng, frames=2, size=4, cameras=()) for _ in range(40)), 0.3) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from([(), (3,), (2, 2)]))
def test_grown_tensors_are_what_safetensors_reads(tmp_path_factory, pieces, row):
    folder = tmp_path_factory.mktemp("grown")
    writer = TensorFileWriter(folder / "t.safetensors")
    kinds = {"a": np.bool_, "b": np.int64, "c": np.uint8, "d": np.float32}
    expected = {}
    for name, kind in kinds.items():
        writer.declare(name, kind, row)
        rows = [np.random.default_rng(n).integers(0, 2, (n, *row)).astype(kind) for n in pieces]
        for piece in rows:
            writer.append(name, piece)
        expected[name] = np.concatenate([np.zeros((0, *row), kind), *rows])
        np.testing.assert_array_equal(writer.rows(name), expected[name])
    writer.finish()
    read = tensors(folder / "t.safetensors")
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert [p.name for p in folder.iterdir()] == ["t.safetensors"]
    shutil.rmtree(folder)


def test_episodes_of_one_scene_cannot_be_held_out_and_are_refused() -> None:
    alike = [replace(make_episode(np.random.default_rng(n)), scene={"seed": 3}) for n in range(3)]
    with pytest.raises(BadInput, match=r"all 3 episodes are of one scene.*validation_fraction=0"):
        require_scenes(alike, 0.1)
    require_scenes(alike, 0.0)
    require_scenes(alike[:1], 0.1)
    require_scenes([*alike, make_episode(np.random.default_rng(9))], 0.1)
