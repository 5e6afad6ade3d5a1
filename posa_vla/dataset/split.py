"""Which episodes are held out."""

from __future__ import annotations

import hashlib
from typing import Literal

from posa_vla.episodes.episode import Episode
from posa_vla.files import canonical_json

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


def scene_key(episode: Episode) -> bytes:
    """Bytes that are equal for episodes of one scene; an episode without a scene is a scene of its own."""
    # How a scene was made to look, and who moved in it, make no other scene of it.
    scene = {key: value for key, value in episode.scene.items() if key not in {"perturbed", "collected"}}
    if scene:
        return canonical_json(scene)
    return episode.state.tobytes() + episode.action.tobytes()


def split_position(episode: Episode) -> float:
    """Where an episode's scene lies in [0, 1): what is below the share that is held out is held out."""
    return int.from_bytes(hashlib.sha256(scene_key(episode)).digest()[:8]) / 2**64


def split_of(episode: Episode, validation_fraction: float) -> Split:
    """Train or validation, by a hash of the scene.

    All episodes of one scene fall on one side, and an episode keeps its side when others are added: what a policy was
    once validated on is never trained on later.
    """
    return "validation" if split_position(episode) < validation_fraction else "train"
