"""Frames at the control rate and without idle ends, and recordings that teach nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from safetensors.numpy import load_file

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.shards.mixed_up import require_actions
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.shards.prepare import nothing_to_learn, prepare
from posa_vla.dataset.shards.taken_frames import require_ratio, taken_frames
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.params import PrepareParams
from posa_vla.schema import parse

ALL = {"image_size": 32, "validation_fraction": 0}
RESAMPLED, TRIMMED = PrepareParams(**ALL, resample=True), PrepareParams(**ALL, trim_idle=True)


def arm(**changes: object) -> Embodiment:
    return parse(Embodiment, {**make_embodiment().model_dump(mode="json"), **changes}, "arm")


def at_rate(fps: float, frames: int = 12) -> Episode:
    return replace(make_episode(np.random.default_rng(0), frames=frames), fps=fps)


def test_a_recording_is_taken_at_the_control_rate(tmp_path: Path) -> None:
    fast, own = at_rate(30.0, frames=13), at_rate(10.0)
    manifest = pack_episodes([fast, own], make_embodiment(), RESAMPLED, tmp_path / "data")
    assert (manifest.fps, manifest.splits["train"].frames) == (10.0, 5 + 12)
    packed = load_file(tmp_path / "data/train.safetensors")
    np.testing.assert_array_equal(packed["state"][:5], fast.state[::3])
    np.testing.assert_array_equal(packed["images.head"][:5], fast.cameras["head"].images[::3])
    deltas = [fast.action[i : i + 3, 0].sum() for i in range(0, 13, 3)]
    np.testing.assert_allclose(packed["action"][:5, 0], deltas, atol=1e-7)
    np.testing.assert_array_equal(packed["action"][:5, 1], fast.action[[2, 5, 8, 11, 12], 1])
    assert packed["length"].tolist() == [5] * 5 + [12] * 12
    np.testing.assert_array_equal(packed["action"][5:], own.action)


@pytest.mark.parametrize("recorded", [25.0, 5.0, 10.5])
def test_rates_that_do_not_divide_are_refused_in_words(tmp_path: Path, recorded: float) -> None:
    with pytest.raises(
        BadInput, match=f"has {recorded:g} frames/s, which cannot be resampled to the control rate of 10"
    ):
        pack_episodes([at_rate(recorded)], make_embodiment(), RESAMPLED, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert require_ratio(29.97, 9.99, "it") == 3


def test_idle_stretches_at_both_ends_are_left_out_and_counted(tmp_path: Path) -> None:
    moving = make_episode(np.random.default_rng(0), frames=30)
    still = [np.repeat(rows[[0, -1]], (20, 10), axis=0) for rows in (moving.state, moving.action)]
    rng = np.random.default_rng(1)

    def around(rows: np.ndarray, ends: np.ndarray, noise: float) -> np.ndarray:
        whole = np.concatenate([ends[:20], rows, ends[20:]])
        return (whole + rng.normal(0, noise, whole.shape) * np.ptp(whole, axis=0)).astype(np.float32)

    long = make_episode(rng, frames=60)
    idle = replace(long, state=around(moving.state, still[0], 0.002), action=around(moving.action, still[1], 0.002))
    taken = taken_frames(idle, make_embodiment(), TRIMMED)
    assert 17 <= taken.rows[0] <= 20
    assert 49 <= taken.rows[-1] <= 53
    assert taken.trimmed == 60 - len(taken.rows)
    manifest = pack_episodes([idle], make_embodiment(), TRIMMED, tmp_path / "data")
    assert (manifest.schema_version, manifest.trimmed) == (3, taken.trimmed)
    assert read_manifest(tmp_path / "data").splits["train"].frames == len(taken.rows)

    nothing = replace(idle, state=np.zeros_like(idle.state), action=np.zeros_like(idle.action))
    assert taken_frames(nothing, make_embodiment(), TRIMMED).trimmed == 0


def joints(name: str = "test_arm") -> Embodiment:
    channels = [{"name": name, "unit": "m"} for name in "xyz"]
    return arm(id=name, action=channels, state=channels)


def test_actions_that_are_the_next_state_are_mixed_up_and_a_leader_s_are_not() -> None:
    rng = np.random.default_rng(0)
    states = [np.cumsum(rng.normal(0, 0.01, (40, 3)), axis=0).astype(np.float32) for _ in range(3)]
    copied = [replace(at_rate(10.0, 40), state=s, action=np.concatenate([s[1:], s[-1:]])) for s in states]
    with pytest.raises(BadInput, match=r"states of the next frames \(they correlate by 1.0000 .*leader and follower"):
        require_actions(copied, joints())
    # One episode that was told something else, or a robot that does not reach what it is told, and there is an action.
    led = replace(copied[0], action=copied[0].action + rng.normal(0, 0.005, (40, 3)).astype(np.float32))
    require_actions([*copied, led], joints())
    require_actions([led], joints())
    require_actions(copied, make_embodiment())


def stored(tmp_path: Path, episodes: list[Episode], embodiment: Embodiment) -> EpisodeStore:
    store = EpisodeStore(tmp_path / "store")
    store.append(episodes, embodiment)
    return store


def test_a_store_of_mixed_up_actions_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    state = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (20, 3)), axis=0).astype(np.float32)
    episode = replace(at_rate(10.0, 20), state=state, action=np.concatenate([state[1:], state[-1:]]))
    store = stored(tmp_path, [episode], joints())
    report = validate(store.root, declared={"test_arm": joints()})
    with pytest.raises(BadInput, match="were leader and follower mixed up"):
        prepare(store.root, report, joints(), PrepareParams(**ALL), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert "leader and follower" in nothing_to_learn(store.root, report, joints(), PrepareParams(**ALL))


def test_a_camera_that_is_black_throughout_is_named(tmp_path: Path) -> None:
    episodes = [make_episode(np.random.default_rng(seed)) for seed in range(2)]
    for episode in episodes:
        episode.cameras["wrist"].images[:] = 0
    store = stored(tmp_path, episodes, make_embodiment())
    report = validate(store.root, declared={"test_arm": make_embodiment()})
    with pytest.raises(BadInput, match=r"a camera is black in them \(wrist\): mend it and record again"):
        prepare(store.root, report, make_embodiment(), PrepareParams(**ALL), tmp_path / "data")


def test_a_batch_of_another_rate_is_resampled_where_that_is_asked_for(tmp_path: Path) -> None:
    episodes = [replace(make_episode(np.random.default_rng(seed), frames=30), fps=30.0) for seed in range(2)]
    store = stored(tmp_path, episodes, arm(control_hz=30))
    report = validate(store.root, declared={"test_arm": make_embodiment()})
    with pytest.raises(BadInput, match=r"recorded at 30 Hz, .* controlled at 10 Hz: prepare\.resample=true"):
        prepare(store.root, report, make_embodiment(), PrepareParams(**ALL), tmp_path / "data")
    manifest = prepare(store.root, report, make_embodiment(), RESAMPLED, tmp_path / "data")
    assert (manifest.fps, manifest.splits["train"].frames, manifest.embodiment.control_hz) == (10.0, 20, 10.0)
