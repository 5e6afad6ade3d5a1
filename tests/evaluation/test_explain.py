"""Where a policy looks in an episode of the store."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from factories import make_episode
from PIL import Image
from untrained import arm_params, untrained_bundle

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.evaluation.pictures import heat
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.pipeline.explanation import explain_episode_of
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def arm_episode(cameras: tuple[str, ...] = ("head", "wrist")) -> Episode:
    embodiment, rng = load_embodiment("sim_arm6"), np.random.default_rng(0)
    episode = make_episode(rng, cameras=cameras, embodiment=embodiment.id, frames=20, size=48)
    state = rng.uniform(0, 0.1, (20, len(embodiment.state))).astype(np.float32)
    action = rng.uniform(0, 0.01, (20, len(embodiment.action))).astype(np.float32)
    return Episode(**{**vars(episode), "state": state, "action": action})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.open(Settings(home=tmp_path / "home"))
    EpisodeStore(made.store).append([arm_episode()], load_embodiment("sim_arm6"))
    return made


def gated(gate: str, tokens: bool) -> Params:
    return overlaid(arm_params(), {"model": {"gate": gate, "anchor_tokens": tokens}}, "test")


def test_every_frame_is_in_the_video_with_both_attentions_below(workspace: Workspace, tmp_path: Path) -> None:
    params = gated("max", True)
    bundle = untrained_bundle(tmp_path / "policy", params)
    batch = EpisodeStore(workspace.store).batches()[0]
    done = explain_episode_of(workspace, params, f"{batch[:8]}/0", tmp_path / "out", policy=bundle.folder)
    assert done.run_id is None
    assert done.anchors
    with av.open(done.video) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert frames[0].shape == (3 * 256 + 24, 2 * 256, 3), "as seen, anchors, action head"
    assert Image.open(done.sheet).height == 3 * 256 + 24


def test_a_policy_without_anchors_has_no_anchor_channels_and_that_is_said(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = gated("none", False)
    bundle = untrained_bundle(tmp_path / "policy", params)
    batch = EpisodeStore(workspace.store).batches()[0]
    done = explain_episode_of(workspace, params, f"{batch[:8]}/0", tmp_path / "out", policy=bundle.folder)
    assert not done.anchors
    assert "this policy has no anchors" in capsys.readouterr().err
    assert Image.open(done.sheet).height == 2 * 256 + 24, "as seen, and the action head"


@pytest.mark.parametrize(
    ("episode", "words"), [("0123456789", "episode"), ("BATCH/7", "has episodes 0 to 0"), ("BATCH/x", "got 'x'")]
)
def test_an_episode_that_is_not_there_is_named(workspace: Workspace, tmp_path: Path, episode: str, words: str) -> None:
    params = arm_params()
    bundle = untrained_bundle(tmp_path / "policy", params)
    batch = EpisodeStore(workspace.store).batches()[0]
    with pytest.raises(BadInput, match=words):
        explain_episode_of(
            workspace, params, episode.replace("BATCH", batch[:8]), tmp_path / "out", policy=bundle.folder
        )
    assert not (tmp_path / "out").exists()


def test_a_policy_of_another_robot_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    params = arm_params()
    bundle = untrained_bundle(tmp_path / "policy", params)
    files = tmp_path / "other"
    files.mkdir()
    for name in ("model.safetensors", "config.json", "normalisation.json", "tokenizer.json"):
        (files / name).write_bytes((bundle.folder / name).read_bytes())
    embodiment = json.loads((bundle.folder / "embodiment.json").read_text())
    (files / "embodiment.json").write_text(json.dumps(embodiment | {"id": "another_arm"}))
    batch = EpisodeStore(workspace.store).batches()[0]
    with pytest.raises(BadInput, match="'another_arm', the episode of 'sim_arm6'"):
        explain_episode_of(workspace, params, f"{batch[:8]}/0", tmp_path / "out", policy=files)


def test_even_attention_paints_nothing_and_a_peak_where_it_is() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    even = heat(image, np.full((8, 8), 1 / 64, np.float32))
    assert np.ptp(even.astype(int).reshape(-1, 3), axis=0).max() == 0
    share = np.full((8, 8), 0.001, np.float32)
    share[2, 5] = 0.5
    painted = heat(image, share).astype(int)
    red = painted[..., 0] - painted[..., 1]
    row, column = divmod(int(red.argmax()), 64)
    assert (row // 8, column // 8) == (2, 5)
