from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from factories import make_embodiment, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from posa_vla.dataset.shards.loader import BatchSampler, PackedDataset
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.errors import BadInput
from posa_vla.params import PrepareParams

LENGTHS = (5, 9, 3)


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    return [make_episode(rng, frames=n, size=16, instruction=f"pick {n}") for n in LENGTHS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, episodes):
    out = tmp_path_factory.mktemp("loader") / "packed"
    pack_episodes(episodes, make_embodiment(), PrepareParams(validation_fraction=0, image_size=16), out)
    return out


def test_a_sample_is_the_frame_and_the_actions_from_it_on(folder, episodes):
    data = PackedDataset(folder, "train", 4)
    assert len(data) == sum(LENGTHS)
    batch = data.sample(torch.tensor([6, 13, 16]))
    episode = episodes[1]
    np.testing.assert_array_equal(batch.images["head"][0], episode.cameras["head"].images[1])
    np.testing.assert_array_equal(batch.state[0], episode.state[1])
    np.testing.assert_array_equal(batch.action[0], episode.action[1:5])
    assert batch.action_valid.tolist() == [[True] * 4, [True] + [False] * 3, [True] + [False] * 3]
    np.testing.assert_array_equal(batch.action[1], np.tile(episode.action[-1], (4, 1)))
    assert [data.captions[i] for i in batch.caption] == ["pick 9", "pick 9", "pick 3"]
    assert batch.anchor_points["wrist"].shape == (3, 2, 2)
    assert batch.images["head"].dtype == torch.uint8


def test_batches_do_not_share_memory_with_the_file(folder):
    data = PackedDataset(folder, "train", 2)
    first = data.sample(torch.tensor([0]))
    before = first.images["head"].clone()
    first.images["head"].zero_()
    first.state.zero_()
    assert torch.equal(data.sample(torch.tensor([0])).images["head"], before)


def test_an_empty_split_has_no_frames(folder):
    assert len(PackedDataset(folder, "validation", 2)) == 0


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["missing", "cut", "header"])
def test_a_damaged_shard_is_bad_input(folder, tmp_path, damage):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "train.safetensors"
    content = shard.read_bytes()
    shard.unlink()
    if damage != "missing":
        shard.write_bytes(content[:-100] if damage == "cut" else b"\xff" * 64 + content[64:])
    with pytest.raises(BadInput, match=r"train\.safetensors is missing or damaged"):
        PackedDataset(tmp_path, "train", 2)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 25), st.integers(0, 5), st.integers(1, 4))
def test_ranks_share_batches_and_every_frame_comes_once_an_epoch(frames, batch, seed, world):
    samplers = [BatchSampler(frames, batch, seed, rank, world) for rank in range(world)]
    whole = BatchSampler(frames, batch, seed)
    drawn: list[int] = []
    for step in range(2 * -(-frames // batch)):
        shares = [s.indices(step).tolist() for s in samplers]
        assert Counter(i for share in shares for i in share) == Counter(whole.indices(step).tolist())
        drawn += whole.indices(step).tolist()
    assert Counter(drawn[:frames]) == Counter(range(frames))
    assert Counter(drawn[frames : 2 * frames]) == Counter(range(frames))


def test_a_resumed_sampler_goes_on_with_the_same_batches():
    running = [BatchSampler(50, 8, 3).indices(step) for step in range(20)]
    fresh = BatchSampler(50, 8, 3)
    for step in (19, 7, 12):
        assert torch.equal(fresh.indices(step), running[step])
    assert not torch.equal(BatchSampler(50, 8, 4).indices(0), running[0])


def test_nothing_to_draw_from_is_bad_input():
    with pytest.raises(BadInput, match="from 0 frames"):
        BatchSampler(0, 8, 0)
