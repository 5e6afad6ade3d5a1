"""A workspace with a target whose episodes cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from factories import make_embodiment, make_episode

from flows.proposal import StoreState, store_state
from flows.retraining import Retraining
from posa_vla.episodes.store import EpisodeStore
from posa_vla.params import load_params
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


@dataclass
class Place:
    """A workspace with a parameter file of a target whose episodes cost nothing."""

    workspace: Workspace
    params_file: str

    @property
    def retraining(self) -> Retraining:
        return Retraining(self.workspace, load_params(Path(self.params_file), None, []))

    def append(self, count: int, *, seed: int, success: bool = True) -> str:
        rng = np.random.default_rng(seed)
        episodes = [make_episode(rng, success=success) for _ in range(count)]
        return EpisodeStore(self.workspace.store).append(episodes, make_embodiment())

    def state(self) -> StoreState:
        return store_state(self.workspace, self.retraining.params)


def make_place(folder: Path) -> Place:
    embodiment = folder / "test_arm.yaml"
    embodiment.write_text(yaml.safe_dump(make_embodiment().model_dump(mode="json")))
    params = {"target": "t", "targets": {"t": {"embodiment": str(embodiment), "task": "pick", "approvals": 0}}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"schema_version": 1, **params}))
    return Place(Workspace.open(Settings(home=folder / "home")), str(folder / "params.yaml"))
