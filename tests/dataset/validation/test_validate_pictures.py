"""What validation says of pictures that came in damaged, and of cameras that move with the hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from lerobot_datasets import CAMERA, edit_rows, make_v21, reader_of

from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.store.episode_store import EpisodeStore


@pytest.mark.parametrize("frame", [7, 15])  # the second is the middle one, which enters the statistics
def test_a_picture_that_came_in_cut_short_is_the_datasets_fault_and_is_looked_at_once(tmp_path, frame):
    folder = make_v21(tmp_path / "dataset", video=False)

    def cut(number: int, row: dict[str, Any]) -> None:
        if number == frame:
            row[CAMERA]["bytes"] = row[CAMERA]["bytes"][:-60]

    edit_rows(folder / "data/chunk-000/episode_000001.parquet", cut)
    store = EpisodeStore(tmp_path / "store")
    assert len(ingest(store, reader_of(folder)).episodes) == 3
    report = validate(store.root, cache=tmp_path / "cache")
    (finding,) = [f for f in report.findings if f.severity == "severe"]
    assert (finding.rule, finding.episode, report.episodes) == ("images", 1, 3)
    assert "record the episode again" in finding.remedy
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    assert validate(store.root, cache=tmp_path / "cache") == report


def test_a_camera_on_the_hand_does_not_drift_though_nobody_declared_that_it_moves(tmp_path):
    embodiment = make_embodiment()
    fixed = {role: camera.model_copy(update={"moving": False}) for role, camera in embodiment.cameras.items()}
    store = EpisodeStore(tmp_path / "store")
    episode = make_episode(np.random.default_rng(0), frames=40)
    # A hand camera sees the gripper at one place, and the world moves past it.
    images = np.stack([np.roll(image, 3 * n, axis=1) for n, image in enumerate(episode.cameras["wrist"].images)])
    images[:, 14:18, 14:18] = 128
    object.__setattr__(episode.cameras["wrist"], "images", images)
    store.append([episode], embodiment.model_copy(update={"cameras": fixed}))
    assert "calibration-drift" not in validate(store.root).rules
