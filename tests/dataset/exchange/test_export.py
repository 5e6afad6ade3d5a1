from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_embodiment, make_episode
from lerobot_datasets import make_v21, make_v30

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.exchange.ingest import ingest
from posa_vla.dataset.validation.episode_page import page_of
from posa_vla.dataset.validation.findings import Finding
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.fit import require_fit
from posa_vla.episodes.foreign.mapping import derived_embodiment, map_features
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.schema import parse

LEROBOT = os.environ.get("POSA_LEROBOT_PYTHON", "")


def take_in(store: EpisodeStore, folder: Path, embodiment=None) -> list[str]:
    source = open_source(folder)
    features = map_features(source, {}, embodiment)
    return ingest(
        store, require_fit(SourceReader(source, features, embodiment or derived_embodiment(source, features)))
    ).episodes


@pytest.mark.parametrize("video", [True, False])
def test_what_was_exported_and_ingested_again_is_the_same(tmp_path, video):
    store = EpisodeStore(tmp_path / "store")
    take_in(store, make_v21(tmp_path / "one", video=video))
    take_in(store, make_v30(tmp_path / "two", video=video))
    done = export(store, validate(store.root), tmp_path / "out")
    again = EpisodeStore(tmp_path / "again")
    (_, reader), *_ = store.readers()
    take_in(again, tmp_path / "out", reader.embodiment)
    before, after = list(store.episodes()), list(again.episodes())
    assert done["episodes"] == len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.action, other.action)
        assert one.instruction == other.instruction
        assert isinstance(one.cameras["head"].images, StoredImages)
        for picture, copy in zip(one.cameras["head"].images, other.cameras["head"].images, strict=True):
            np.testing.assert_array_equal(picture, copy)


def sim_store(tmp_path: Path) -> EpisodeStore:
    store = EpisodeStore(tmp_path / "store")
    rng = np.random.default_rng(0)
    bad, failed = make_episode(rng, instruction=""), make_episode(rng, success=False)
    store.append([make_episode(rng), bad, failed, make_episode(rng)], make_embodiment())
    return store


def test_quarantined_and_failed_episodes_stay_out(tmp_path):
    store = sim_store(tmp_path)
    report = validate(store.root)
    done = export(store, report, tmp_path / "out")
    assert (done["episodes"], done["left_out"]) == (2, 2)
    assert export(store, report, tmp_path / "more", failures=True)["episodes"] == 3


def test_what_does_not_fit_one_dataset_is_bad_input_and_leaves_nothing(tmp_path):
    store = sim_store(tmp_path)
    rng = np.random.default_rng(1)
    store.append([make_episode(rng, size=16)], make_embodiment())
    store.append([make_episode(rng, embodiment="other")], make_embodiment(name="other"))
    report = validate(store.root)
    for options, message in (
        ({}, "episodes of other, test_arm: choose one with --embodiment"),
        ({"embodiment": "test_arm"}, "export unlike ones apart, --batch"),
        ({"embodiment": "nobody"}, "no episode of 'nobody'"),
        ({"batches": ["0000000"]}, "no batch"),
    ):
        with pytest.raises(BadInput, match=message):
            export(store, report, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def test_a_restored_backup_changes_no_declaration(tmp_path):
    """A file's time is when it was copied; the history knows which batch came last."""
    store, rng = EpisodeStore(tmp_path / "store"), np.random.default_rng(0)
    wider = make_embodiment().model_dump(mode="json")
    wider["state"][0]["high"] = 3.0
    first = store.append([make_episode(rng)], make_embodiment())
    second = store.append([make_episode(rng)], parse(Embodiment, wider, "test"))
    report = validate(store.root)

    def limits(name: str, **history: Any) -> float | None:
        export(store, report, tmp_path / name, **history)
        return DatasetReader(tmp_path / name).embodiment.state[0].high

    touched = store.folder(first) / "meta" / "posa.json"
    before = limits("before")
    os.utime(touched, (1, 1) if before == 1 else None)
    assert limits("restored") == before
    assert limits("one", since={first: 1, second: 2}) == 3
    assert limits("other", since={first: 2, second: 1}) == 1
    assert limits("new", since={second: 1}) == 1, "no version has the first yet: it came last"


@pytest.mark.lerobot
@pytest.mark.skipif(not LEROBOT, reason="POSA_LEROBOT_PYTHON names no interpreter with lerobot (infra/lerobot_env.sh)")
def test_the_real_lerobot_reads_an_export(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    take_in(store, make_v21(tmp_path / "one", video=False))
    take_in(store, make_v21(tmp_path / "two", video=False, seed=300))
    export(store, validate(store.root), tmp_path / "out")
    program = Path(__file__).with_name("open_with_lerobot.py")
    done = subprocess.run([LEROBOT, str(program), str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    episodes = list(store.episodes())
    assert (seen["episodes"], seen["frames"], seen["fps"]) == (6, sum(len(e) for e in episodes), 10)
    np.testing.assert_allclose(seen["state"], np.concatenate([e.state for e in episodes]), atol=1e-6)
    np.testing.assert_allclose(seen["action"], np.concatenate([e.action for e in episodes]), atol=1e-6)
    assert seen["tasks"] == [e.instruction for e in episodes for _ in range(len(e))]
    assert seen["pictures"] == [int(i.astype(np.int64).sum()) for e in episodes for i in e.cameras["head"].images]


def test_a_page_shows_frames_and_events_and_trusts_no_text():
    episode = make_episode(np.random.default_rng(0), instruction="<script>alert(1)</script>")
    finding = Finding(
        rule="jumps", severity="warning", batch="b", episode=0, frame=None, value="</li><img onerror=x>", remedy=""
    )
    page = page_of(episode, make_embodiment(), "an episode", [finding])
    assert "<script>alert" not in page
    assert "<img onerror" not in page
    assert page.count("data:image/jpeg") == 2 * (len(episode) + 1)
    assert "frame 6" in page
    assert page.count("<polyline") == 3 + 2


def test_a_page_of_a_video_has_its_frames_and_no_anchors(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    take_in(store, make_v21(tmp_path / "one"))
    ((_, reader),) = store.readers()
    episode = replace(reader.episode(reader.records[0]), success=False)
    page = page_of(episode, reader.embodiment, "an episode")
    assert page.count("data:image/jpeg") == len(episode) + 1
    assert "not declared" in page
