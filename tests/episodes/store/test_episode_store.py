from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment, make_episode

from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

EMBODIMENT = make_embodiment()


def episodes(seed: int, count: int = 2):
    rng = np.random.default_rng(seed)
    return [make_episode(rng, frames=4, size=8) for _ in range(count)]


def test_the_same_episodes_twice_are_one_batch(tmp_path):
    store = EpisodeStore(tmp_path)
    first = store.append(episodes(0), EMBODIMENT)
    digest = store.digest()
    assert store.append(iter(episodes(0)), EMBODIMENT) == first
    assert store.batches() == [first]
    assert store.digest() == digest


def test_other_episodes_are_another_batch_and_another_store(tmp_path):
    store = EpisodeStore(tmp_path)
    first, digest = store.append(episodes(0), EMBODIMENT), store.digest()
    second = store.append(episodes(1), EMBODIMENT)
    assert store.batches() == sorted([first, second])
    assert store.digest() != digest


def test_the_store_does_not_depend_on_the_order_of_appends(tmp_path):
    stores = [EpisodeStore(tmp_path / name) for name in "ab"]
    for store, seeds in zip(stores, [(0, 1), (1, 0)], strict=True):
        for seed in seeds:
            store.append(episodes(seed), EMBODIMENT)
    assert stores[0].digest() == stores[1].digest()
    assert [episode_digest(e) for e in stores[0].episodes()] == [episode_digest(e) for e in stores[1].episodes()]


def test_an_empty_store_has_nothing_in_it(tmp_path):
    store = EpisodeStore(tmp_path / "none")
    assert store.batches() == []
    assert list(store.episodes()) == []
    with pytest.raises(BadInput, match="no batch"):
        store.folder("0" * 64)


def test_an_append_that_fails_leaves_the_store_as_it_was(tmp_path):
    store = EpisodeStore(tmp_path)
    store.append(episodes(0), EMBODIMENT)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput):
        store.append(episodes(1), make_embodiment(name="other"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.fault
def test_an_append_killed_half_way_leaves_no_batch_and_its_remains_go_with_the_next(tmp_path):
    program = (
        "import sys, pathlib\nsys.path.insert(0, sys.argv[2])\nimport numpy as np\n"
        "from factories import make_embodiment, make_episode\n"
        "from posa_vla.episodes.store.episode_store import EpisodeStore\n"
        "def episodes():\n    yield make_episode(np.random.default_rng(0), frames=4, size=8)\n"
        "    print('written', flush=True)\n    sys.stdin.read()\n"
        "EpisodeStore(pathlib.Path(sys.argv[1])).append(episodes(), make_embodiment())\n"
    )
    support = str(Path(__file__).parents[2] / "support")
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), support],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    store = EpisodeStore(tmp_path)
    assert store.batches() == []
    assert list((tmp_path / "drafts").iterdir())
    store.append(episodes(0), EMBODIMENT)
    assert len(store.batches()) == 1
    assert list((tmp_path / "drafts").iterdir()) == []
