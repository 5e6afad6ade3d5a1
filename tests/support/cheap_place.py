"""A workspace with a target whose episodes cost nothing."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from factories import make_embodiment, make_episode
from manifests import write_manifest

from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.params_file import load_params
from posa_vla.pipeline.announcements import Announce, silent
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.proposal import StoreState, store_state
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def _git(*arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Place:
    """A workspace with a parameter file of a target whose episodes cost nothing."""

    workspace: Workspace
    params_file: str
    announce: Announce = silent

    @property
    def context(self) -> StepContext:
        return StepContext(self.workspace, load_params(Path(self.params_file), None, []), announce=self.announce)

    def append(self, count: int, *, seed: int, success: bool = True) -> str:
        rng = np.random.default_rng(seed)
        episodes = [make_episode(rng, success=success) for _ in range(count)]
        return EpisodeStore(self.workspace.store).append(episodes, make_embodiment())

    def version(self, version: str, episodes: int, source: str, embodiment: str = "test_arm") -> Path:
        """Prepared data of a version that the history calls `data-v<version>`; returns its manifest."""
        folder = self.workspace.data / version
        path = write_manifest(folder, make_embodiment(name=embodiment), train=episodes - 1, validation=1, source=source)
        repository = self.workspace.repository
        if not repository.exists():
            _git("init", "--quiet", "--bare", str(repository))
        tree = _git("-C", str(repository), "hash-object", "-w", "-t", "tree", "/dev/null")
        commit = _git("-C", str(repository), "commit-tree", "-m", version, tree)
        for ref in (f"refs/heads/data/{version}", f"refs/tags/data-v{version}"):
            _git("-C", str(repository), "update-ref", ref, commit)
        return path

    def state(self) -> StoreState:
        return store_state(self.workspace, self.context.params)


def make_place(folder: Path) -> Place:
    embodiment = folder / "test_arm.yaml"
    embodiment.write_text(yaml.safe_dump(make_embodiment().model_dump(mode="json")))
    params = {"target": "t", "targets": {"t": {"embodiment": str(embodiment), "task": "pick", "approvals": 0}}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"schema_version": 1, **params}))
    return Place(Workspace.open(Settings(home=folder / "home")), str(folder / "params.yaml"))
