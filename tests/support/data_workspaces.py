"""Workspaces with ingested data and two versions, for tests of what happens to them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from lerobot_datasets import make_v21

from posa_vla.params import Params
from posa_vla.pipeline.ingestion import Dataset, Ingestion, ingest_dataset
from posa_vla.schema import parse
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def data_params(**prepare: Any) -> Params:
    """Parameters under which every episode is trained on."""
    targets = {"t": {"embodiment": "sim_arm6", "task": "pick"}}
    value = {"target": "t", "targets": targets, "prepare": {"validation_fraction": 0, "image_size": 32, **prepare}}
    return parse(Params, value, "test")


def take_in(workspace: Workspace, dataset: Path) -> Ingestion:
    """Ingests a dataset and makes a version."""
    return ingest_dataset(workspace, data_params(), Dataset(str(dataset), workspace.home.parent))


def two_versions(folder: Path, **settings: str) -> Workspace:
    """A workspace in `folder/home` with data-v1 (three episodes) and data-v2 (six)."""
    workspace = Workspace.open(Settings(home=folder / "home", **settings))  # type: ignore[arg-type]  # a test names them
    take_in(workspace, make_v21(folder / "one"))
    take_in(workspace, make_v21(folder / "two", seed=500))
    return workspace


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    """A copy of a workspace, its hard links too: what shares bytes goes on sharing them."""
    subprocess.run(["cp", "-a", str(workspace.home), str(folder / "home")], check=True)
    return Workspace.open(Settings(home=folder / "home", dvc_remote=workspace.settings.dvc_remote))
