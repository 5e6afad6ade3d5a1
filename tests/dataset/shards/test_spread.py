"""Normalisation that real arms survive: channels that hardly move are not blown up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from factories import make_embodiment
from training_params import quick_params

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.shards.spread import least_stds, still_channels, still_in_words
from posa_vla.dataset.split import split_of
from posa_vla.episodes.embodiment import UNSTATED, Channel, Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.files import read_json
from posa_vla.model.normalisation import Normalisation, Standardise, Statistics
from posa_vla.params import PrepareParams
from posa_vla.schema import parse
from posa_vla.training.loop import Trainer

REAL = Path(__file__).parents[4] / "shared" / "data" / "g1_real_v21"


def floors(std: list[float], *channels: Channel, largest: float = 1.0) -> list[float]:
    return least_stds(channels, np.array(std), np.full(len(std), largest))


def test_a_channel_s_floor_is_of_its_range_or_of_its_unit_s() -> None:
    limited, bare = Channel(name="a", unit="rad", low=-2, high=2), Channel(name="b", unit="rad")
    degrees = Channel(name="c", unit="deg")
    assert floors([1, 1, 60], limited, bare, degrees) == pytest.approx([0.04, 0.01 * np.pi, 1.8])
    unstated = Channel(name="d", unit=UNSTATED)
    assert floors([1], unstated, largest=6.0) == pytest.approx([0.01 * np.pi])
    assert floors([30], unstated, largest=90.0) == pytest.approx([1.8])


def test_a_vector_of_small_steps_is_not_taken_for_standing_still() -> None:
    steps = [Channel(name=name, unit="m") for name in "xyz"]
    assert floors([0.002, 0.001, 0.0001], *steps) == pytest.approx([0.0003] * 3)
    assert floors([0.0, 0.0, 0.0], *steps) == pytest.approx([1e-4] * 3)


def test_the_state_is_clipped_and_a_bundle_of_before_keeps_what_it_had() -> None:
    old = Statistics(mean=[0.0, 0.0], std=[1e-3, 1e-9], q01=[0.0] * 2, q99=[0.0] * 2)
    x = torch.tensor([0.06, 0.06])
    torch.testing.assert_close(Standardise(old)(x), torch.tensor([60.0, 0.06]))
    new = Standardise(old.model_copy(update={"floor": [0.02, 0.02]}), 2.5)
    torch.testing.assert_close(new(x), torch.tensor([2.5, 2.5]))
    torch.testing.assert_close(new.back(torch.ones(2)), torch.full((2,), 0.02))


def real_episodes() -> tuple[Embodiment, list[Episode]]:
    """The vectors of two whole episodes of a humanoid; nobody has stated units or limits. Its pictures are not read."""
    info = json.loads((REAL / "meta/info.json").read_text())
    features = {key: info["features"][key]["names"][0] for key in ("observation.state", "action")}
    base = make_embodiment(cameras=("head",), name="g1").model_dump(mode="json")
    vectors = zip(("state", "action"), features.values(), strict=True)
    channels = {v: [{"name": name, "unit": UNSTATED} for name in names] for v, names in vectors}
    embodiment = parse(Embodiment, {**base, **channels}, "g1")
    episodes = []
    for number in (1, 2):
        table = pq.read_table(REAL / f"data/chunk-000/episode_{number:06d}.parquet")
        state, action = (np.stack(table[key].to_numpy()).astype(np.float32) for key in features)
        images = np.zeros((len(state), 16, 16, 3), np.uint8)
        camera = {"head": CameraTrack(images=images)}
        episodes.append(Episode("g1", "pick up the bottle", "teleop", True, 30.0, camera, state, action))
    return embodiment, episodes


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the real robot dataset lies beside the project only where it is developed"
)
@pytest.mark.parametrize("held_out", [0, 1])
@pytest.mark.parametrize("actions", ["absolute", "relative"])
def test_no_input_and_no_loss_of_a_real_arm_is_beyond_ten(tmp_path: Path, held_out: int, actions: str) -> None:
    embodiment, episodes = real_episodes()
    # An episode's side follows from its scene: one is found for each that puts it where it is wanted.
    for number, episode in enumerate(episodes):
        side = "validation" if number == held_out else "train"
        while split_of(episode, 0.5) != side:
            episode.scene["try"] = episode.scene.get("try", 0) + 1
    prepare = PrepareParams(image_size=16, validation_fraction=0.5, actions=actions)  # type: ignore[arg-type]  # a str
    pack_episodes(episodes, embodiment, prepare, tmp_path / "data")
    normalisation = read_json(tmp_path / "data/normalisation.json")

    still = still_channels(embodiment, normalisation)
    assert set(still["state"]) >= {"kLeftShoulderYaw", "kLeftWristRoll", "kLeftHandPinky", "kLeftHandIndex"}
    assert not set(still["state"]) & {"kRightElbow", "kRightShoulderYaw", "kRightWristYaw", "kRightHandPinky"}
    words = still_in_words(still, embodiment)
    assert f"{len(still['state'])} of 26 channels of the state (" in words
    assert "kLeftHandPinky" in words

    params = quick_params(anchor_only_steps=0)
    model = params.model.model_copy(update={"grid": 4})
    trainer = Trainer(tmp_path / "data", params.model_copy(update={"model": model, "prepare": prepare}))
    for split in ("train", "validation"):
        data = PackedDataset(tmp_path / "data", split, params.model.horizon)
        state, _, _ = data.chunks(torch.arange(len(data)))
        assert float(trainer.state_units(state).abs().max()) <= 5
    losses = trainer.validate()
    assert {"validation_loss", "validation_action"} <= losses.keys()
    assert all(value < 10 for value in losses.values()), losses
    metrics = [trainer.advance() for _ in range(10)][-1]
    assert metrics is not None
    assert metrics["loss"] < 10

    before = parse(
        Normalisation, {k: v for k, v in normalisation.items() if k in ("state", "action")} | _bare(normalisation), "1"
    )
    worst = Standardise(before.state)(PackedDataset(tmp_path / "data", "validation", 8)._state).abs().max()
    assert worst > 10, "as it was before there were floors"


def _bare(normalisation: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    return {v: {k: x for k, x in normalisation[v].items() if k != "floor"} for v in ("state", "action")}
