from __future__ import annotations

from pathlib import Path

import pytest
from clicked_bench import EMBODIMENT, Bench, recorded_bench

from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.ingestion import Dataset, open_reader
from posa_vla.sim.gl import require_gl

# Test modules that import mujoco themselves are collected after this file.
require_gl()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return recorded_bench(tmp_path_factory.mktemp("bench") / "dataset")


@pytest.fixture(scope="session")
def filmed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    folder: Path = tmp_path_factory.mktemp("store")
    dataset = Dataset(str(bench.folder), folder, {}, EMBODIMENT)
    return Filmed(open_reader(open_source(bench.folder), dataset, EpisodeStore(folder))[0])
