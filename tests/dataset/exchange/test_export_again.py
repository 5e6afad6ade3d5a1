"""What was exported from one store and ingested into another: the same episodes, with all that is known of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from factories import make_embodiment, make_episode
from lerobot_datasets import make_v21, reader_of

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.store.episode_store import EpisodeStore


def exported(store: EpisodeStore, out: Path) -> Path:
    export(store, validate(store.root), out, failures=True)
    return out


@pytest.fixture
def recorded(tmp_path) -> tuple[EpisodeStore, Path]:
    """Episodes that were recorded here, calibrated, one of them failed, one with times of its own; and their export."""
    store = EpisodeStore(tmp_path / "store")
    rng = np.random.default_rng(0)
    times = (np.arange(12) / 10 + 1e-5 * np.arange(12)).astype(np.float32).astype(np.float64)
    episodes = [
        make_episode(rng),
        make_episode(rng, success=False, source="deployment"),
        replace(make_episode(rng), timestamps=times, extra={"observation.effort": np.ones((12, 2), np.float32)}),
    ]
    for episode in episodes[:2]:
        episode.extra["observation.effort"] = np.full((12, 2), 0.5, np.float32)
    store.append(episodes, make_embodiment())
    return store, exported(store, tmp_path / "out")


def test_what_was_recorded_here_is_the_same_episodes_again(tmp_path, recorded):
    store, out = recorded
    again = EpisodeStore(tmp_path / "again")
    done = ingest(again, reader_of(out, embodiment=make_embodiment()))
    assert (done.kept, done.remarks) == ([], [])
    for one, other in zip(store.episodes(), again.episodes(), strict=True):
        assert (one.success, one.source, one.scene) == (other.success, other.source, other.scene)
        for role, camera in one.cameras.items():
            np.testing.assert_array_equal(camera.intrinsics, other.cameras[role].intrinsics)
            np.testing.assert_array_equal(camera.pose, other.cameras[role].pose)
    assert again.known().keys() == store.known().keys()
    assert again.batches() == store.batches()
    assert ingest(store, reader_of(out, embodiment=make_embodiment())).new == 0
    # Without an embodiment file, too: an episode is what was recorded.
    assert set(ingest(again, reader_of(out)).episodes) == store.known().keys()


@pytest.mark.parametrize("video", [True, False])
def test_what_came_in_calibrated_is_the_same_again(tmp_path, video):
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "cameras": {
                    "head": {
                        "intrinsics": {"fx": 40, "fy": 40, "cx": 24, "cy": 16, "width": 48, "height": 32},
                        "base_from_camera": {"position": [0, 0, 4], "quaternion": [0, 1, 0, 0]},
                    }
                }
            }
        )
    )
    store, again = EpisodeStore(tmp_path / "store"), EpisodeStore(tmp_path / "again")
    calibration = load_calibration(tmp_path / "c.yaml", ["head"])
    ingest(store, reader_of(make_v21(tmp_path / "one", video=video), calibration=calibration))
    out = exported(store, tmp_path / "out")
    assert set(ingest(again, reader_of(out)).episodes) == store.known().keys()
    assert ingest(store, reader_of(out)).new == 0
    assert "content" not in validate(again.root).rules


def test_a_file_of_ours_that_does_not_fit_is_a_remark(tmp_path, recorded):
    _, out = recorded
    path = out / "meta/posa.json"
    whole = path.read_text()
    for change in (
        lambda posa: posa.update(more=1),
        lambda posa: posa["episodes"][0].update(success="perhaps"),
        lambda posa: posa["episodes"][0].update(scene={"seed": float("inf")}),
        lambda posa: posa["episodes"][0].update(scene={"\ud800": 1}),
        lambda posa: posa.update(schema_version=9),
        lambda posa: posa["episodes"].pop(),
    ):
        posa = json.loads(whole)
        change(posa)
        path.write_text(json.dumps(posa))
        ((rule, value),) = reader_of(out).source.remarks
        assert rule == "posa"
        assert "meta/posa.json" in value
        assert str(tmp_path) not in value
    again = EpisodeStore(tmp_path / "again")
    assert len(ingest(again, reader_of(out)).episodes) == 3
    assert all(episode.source == "teleop" and not episode.scene for episode in again.episodes())
    assert all(camera.pose is not None for e in again.episodes() for camera in e.cameras.values())
    assert "content" not in validate(again.root).rules


def test_a_file_of_ours_that_is_no_json_or_leads_elsewhere_is_a_remark(tmp_path, recorded):
    _, out = recorded
    path = out / "meta/posa.json"
    secret = tmp_path / "secret.json"
    path.rename(secret)
    for make in (lambda: path.write_text("[" * 100_000), lambda: path.symlink_to(secret)):
        make()
        assert [rule for rule, _ in reader_of(out).source.remarks] == ["posa"]
        path.unlink()


def test_recorded_here_and_came_encoded_do_not_mix_in_one_dataset(tmp_path, recorded):
    store, out = recorded
    (out / "meta/posa.json").unlink()
    (encoded, *_) = (reader_of(out).episode(w) for w in reader_of(out).source.episodes())
    first = next(store.episodes())
    with pytest.raises(Exception, match="append unlike episodes as batches of their own"):
        EpisodeStore(tmp_path / "new").append([first, encoded], make_embodiment())
    assert episode_digest(first) != episode_digest(encoded)
