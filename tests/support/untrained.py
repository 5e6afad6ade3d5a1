"""A real, untrained policy of the simulated arm, for tests of what is done with policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from factories import make_episode

from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.episodes.embodiment import Embodiment, embodiment_file, load_embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.model.posa_policy import initial_policy_files
from posa_vla.params import Params
from posa_vla.release.bundle import Bundle, build_bundle
from posa_vla.schema import parse


def arm_params(embodiment: str = "sim_arm6", **changes: Any) -> Params:
    """Parameters of a target on the simulated arm, with a model that runs in milliseconds."""
    values: dict[str, Any] = {
        "target": "t",
        "targets": {"t": {"embodiment": embodiment, "task": "pick", "approvals": 0}},
        "collect": {"image_size": 32},
        "prepare": {"image_size": 32},
        "model": {"grid": 8, "width": 16, "flow_layers": 1, "flow_width": 16, "flow_heads": 2, "flow_steps": 2},
        "evaluate": {"episodes": 4, "objects": 1, "max_steps": 6, "videos": 1},
    }
    return parse(Params, {**values, **changes}, "test")


def _episode(rng: np.random.Generator, embodiment: Embodiment) -> Episode:
    """An episode of the arm's shape whose numbers mean nothing."""
    episode = make_episode(rng, cameras=tuple(embodiment.cameras), embodiment=embodiment.id)
    frames = len(episode.state)
    return Episode(
        **{
            **vars(episode),
            "state": rng.uniform(0, 0.1, (frames, len(embodiment.state))).astype(np.float32),
            "action": rng.uniform(0, 0.01, (frames, len(embodiment.action))).astype(np.float32),
        }
    )


def untrained_bundle(folder: Path, params: Params, seed: int = 0) -> Bundle:
    """Seals an untrained policy below `folder`; another seed gives another one."""
    embodiment = load_embodiment(params.chosen.embodiment)
    rng = np.random.default_rng(0)
    pack_episodes([_episode(rng, embodiment) for _ in range(4)], embodiment, params.prepare, folder / "data")
    files = folder / "files"
    files.mkdir()
    initial_policy_files(folder / "data", params, files, seed=seed)
    return build_bundle(files, folder / "bundles")


def real_arm(folder: Path) -> Path:
    """An embodiment file like the simulated arm's, of a robot that exists."""
    declared = load_embodiment("sim_arm6").model_dump(mode="json") | {"simulated": False, "id": "real_arm"}
    declared["arm"] = None
    path = folder / "real_arm.yaml"
    path.write_text(yaml.safe_dump(declared))
    assert embodiment_file(str(path)) == path
    return path
