"""What an episode is, as one digest: independent of how it is stored."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, sha256_json


def episode_arrays(episode: Episode) -> dict[str, NDArray[Any]]:
    """All arrays of an episode that are there, by name."""
    arrays: dict[str, NDArray[Any] | None] = {
        "state": episode.state,
        "action": episode.action,
        "end_effector": episode.end_effector,
        "gripper": episode.gripper,
    }
    for role, camera in episode.cameras.items():
        arrays[f"images.{role}"] = camera.images
        arrays[f"intrinsics.{role}"] = camera.intrinsics
        arrays[f"pose.{role}"] = camera.pose
    return {name: array for name, array in sorted(arrays.items()) if array is not None}


def episode_digest(episode: Episode) -> str:
    """Hex SHA-256 of everything in an episode.

    Raises:
        BadInput: Its scene is not made of JSON values.
    """
    arrays = episode_arrays(episode)
    header = {
        "embodiment": episode.embodiment,
        "instruction": episode.instruction,
        "source": episode.source,
        "success": episode.success,
        "fps": episode.fps,
        "scene": episode.scene,
        "arrays": {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()},
    }
    try:
        digest = hashlib.sha256(canonical_json(header))
    except (TypeError, ValueError) as error:
        raise BadInput(f"the episode's scene holds something that is not JSON ({error}): {episode.scene}") from None
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def batch_digest(embodiment: Embodiment, episodes: list[str]) -> str:
    """Digest of a batch: its embodiment and its episodes' digests, in order."""
    return sha256_json({"embodiment": embodiment.digest, "episodes": episodes})
