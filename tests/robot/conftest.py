"""The distribution's metadata, where the checkout is on the path but not installed."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def metadata_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `sys.path` with what an installer makes of pyproject.toml's entry points."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / f"posa_vla-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for group, p in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    return folder


@pytest.fixture
def installed(metadata_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process sees the package as installed."""
    if not importlib.metadata.entry_points(group="posa_vla.robots"):
        monkeypatch.syspath_prepend(str(metadata_path))
