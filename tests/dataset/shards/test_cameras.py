"""One to six cameras of different sizes, cameras that an episode lacks, and cameras that are dropped in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_embodiment, make_episode
from lerobot_datasets import CAMERA, LENGTHS, make_v21, reader_of
from safetensors.numpy import load_file
from training_params import quick_params

from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.shards.augment import augment
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.model.posa_policy import load_policy
from posa_vla.params import Params, PrepareParams
from posa_vla.policy.policy import Observation
from posa_vla.schema import parse
from posa_vla.training.loop import Trainer, train

ALL = PrepareParams(image_size=32, validation_fraction=0)


def quick(**changes: object) -> Params:
    return quick_params(**changes).model_copy(update={"prepare": ALL})


def lacking(episode: Episode, role: str) -> Episode:
    return replace(episode, cameras={name: track for name, track in episode.cameras.items() if name != role})


@pytest.mark.parametrize("count", [1, 6])
def test_one_to_six_cameras_of_different_sizes_are_learnt_from_and_acted_on(tmp_path: Path, count: int) -> None:
    roles = ("head", "wrist", "left", "right", "top", "side")[:count]
    rng = np.random.default_rng(0)
    sizes = dict(zip(roles, (32, 48, 16, 40, 64, 24), strict=False))
    episodes = []
    for _ in range(3):
        made = {size: make_episode(rng, cameras=roles, size=size) for size in sizes.values()}
        tracks = {role: made[size].cameras[role] for role, size in sizes.items()}
        episodes.append(replace(made[32], cameras=tracks))
    pack_episodes(episodes, make_embodiment(cameras=roles), ALL, tmp_path / "data")
    policy = load_policy(train(tmp_path / "data", quick(steps=2), tmp_path / "out"), "d")
    images = {role: np.zeros((size, size, 3), np.uint8) for role, size in sizes.items()}
    seen = Observation(images, np.zeros(3, np.float32), "pick up the red cube")
    chunk = policy.act([seen], attention=True)
    assert chunk.attention is not None
    assert list(chunk.attention) == list(roles)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two episodes with both cameras, and two without the one on the hand."""
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, size=32) for _ in range(4)]
    some = [lacking(episode, "wrist") if number > 1 else episode for number, episode in enumerate(episodes)]
    pack_episodes(some, make_embodiment(), ALL, tmp_path / "data")
    return tmp_path / "data"


def test_an_episode_that_lacks_a_camera_is_masked(mixed: Path) -> None:
    manifest = read_manifest(mixed)
    assert (manifest.schema_version, manifest.absent) == (3, {"wrist": 24})
    packed = load_file(mixed / "train.safetensors")
    assert packed["present.head"].all()
    assert packed["present.wrist"].tolist() == [True] * 24 + [False] * 24
    assert not packed["images.wrist"][24:].any()
    assert not packed["anchor_valid.wrist"][24:].any()
    assert manifest.labels["wrist"].task == pytest.approx(manifest.labels["head"].task / 2, abs=0.1)


def test_a_camera_that_is_not_there_tells_the_action_head_nothing(mixed: Path) -> None:
    trainer = Trainer(mixed, quick(anchor_only_steps=0))
    for _ in range(4):
        trainer.advance()
    batch = trainer.train_data.sample(torch.tensor([0, 30]))
    noise = torch.randint(0, 256, batch.images["wrist"].shape, dtype=torch.uint8)
    with torch.no_grad():
        seen, other = (
            trainer.model.encode(images, trainer.state_units(batch.state), ["a", "a"], batch.present).context.summary
            for images in (batch.images, {**batch.images, "wrist": noise})
        )
    torch.testing.assert_close(seen[1], other[1])
    assert not torch.allclose(seen[0], other[0], atol=1e-4), "where it is there, it is looked at"


def test_cameras_that_are_not_declared_and_none_at_all_are_refused(tmp_path: Path) -> None:
    episode = make_episode(np.random.default_rng(0))
    for wrong in (make_episode(np.random.default_rng(0), cameras=("head", "top")), replace(episode, cameras={})):
        with pytest.raises(BadInput, match="collect with the declared cameras, or with some of them"):
            pack_episodes([wrong], make_embodiment(), ALL, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_dropped_cameras_are_drawn_and_one_always_stays(mixed: Path) -> None:
    trainer = Trainer(mixed, quick())
    batch = trainer.train_data.sample(torch.arange(48).repeat(20))
    dropped = augment(batch, torch.Generator().manual_seed(0), 0, 0, camera_dropout=0.4)
    head, wrist = dropped.present["head"], dropped.present["wrist"]
    assert not (wrist & ~batch.present["wrist"]).any(), "what an episode lacks stays masked"
    assert (head | wrist).all()
    both = batch.present["wrist"]
    assert head[~both].all(), "the only one that there is stays"
    assert 0.25 < float((~wrist[both]).float().mean()) < 0.4
    assert 0.25 < float((~head[both]).float().mean()) < 0.4
    assert torch.equal(dropped.anchor_valid["wrist"], batch.anchor_valid["wrist"])


def test_datasets_with_and_without_a_camera_are_prepared_together(tmp_path: Path) -> None:
    channels = [{"name": f"j{i}", "unit": "rad"} for i in range(4)]
    roles = {"head": {"source": "cam_high"}, "wrist": {"source": "cam_wrist"}}
    value = {"id": "test_arm", "simulated": False, "cameras": roles, "state": channels, "action": channels}
    embodiment = parse(Embodiment, {**value, "action_frame": "joint", "control_hz": 10}, "two cameras")
    store = EpisodeStore(tmp_path / "store")
    for place, cameras in (("both", (CAMERA, "observation.images.cam_wrist")), ("one", (CAMERA,))):
        folder = make_v21(tmp_path / place, cameras=cameras, video=False, seed=len(place))
        assert ingest(store, reader_of(folder, embodiment=embodiment)).new == len(LENGTHS)
    report = validate(store.root, declared={"test_arm": embodiment})
    manifest = prepare(store.root, report, embodiment, ALL, tmp_path / "data")
    assert manifest.absent == {"wrist": sum(LENGTHS)}
    assert manifest.splits["train"].episodes == 2 * len(LENGTHS)
