"""What an episode is, as one digest: independent of how it is stored."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.images import StoredImages
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, sha256_json

# Fields of an episode, and of its cameras, with a row a frame and no pictures.
VECTORS = ("state", "action", "end_effector", "gripper")
CAMERA_VECTORS = ("intrinsics", "pose", "covariance", "end_effector_pixel")


def vectors(episode: Episode) -> dict[str, NDArray[Any]]:
    """The arrays of an episode that have a row a frame and are neither pictures nor times, by name."""
    parts: dict[str, NDArray[Any] | None] = {name: getattr(episode, name) for name in VECTORS}
    for role, camera in episode.cameras.items():
        parts |= {f"{name}.{role}": getattr(camera, name) for name in CAMERA_VECTORS}
    parts |= {f"extra.{name}": array for name, array in episode.extra.items()}
    return {name: part for name, part in parts.items() if part is not None}


def array_parts(episode: Episode) -> dict[str, NDArray[Any] | StoredImages]:
    """All arrays of an episode that are there, by name."""
    parts: dict[str, NDArray[Any] | StoredImages] = {**vectors(episode)}
    parts |= {f"images.{role}": camera.images for role, camera in episode.cameras.items()}
    if episode.timestamps is not None:
        parts["timestamps"] = episode.timestamps
    return dict(sorted(parts.items()))


def episode_digest(episode: Episode) -> str:
    """Hex SHA-256 of everything in an episode.

    Images in memory count by their pixels. Stored ones count by their encoded bytes, for two decoders may differ in
    the last bit.

    Raises:
        BadInput: Its scene is not made of JSON values, or stored images cannot be read.
    """
    parts = array_parts(episode)
    header = {
        "embodiment": episode.embodiment,
        "instruction": episode.instruction,
        "source": episode.source,
        "success": episode.success,
        "fps": episode.fps,
        "scene": episode.scene,
        "arrays": {
            name: ["encoded" if isinstance(part, StoredImages) else part.dtype.name, list(part.shape)]
            for name, part in parts.items()
        },
    }
    # An episode that was asked one thing keeps the digest that it always had.
    if episode.prompts is not None:
        header["prompts"] = episode.asked()
    try:
        digest = hashlib.sha256(canonical_json(header))
    except (TypeError, ValueError):
        raise BadInput(f"the episode's scene holds something that is not JSON: {episode.scene}") from None
    for part in parts.values():
        if isinstance(part, StoredImages):
            for data in part.payloads():
                digest.update(len(data).to_bytes(8) + data)
        else:
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def signals_digest(state: NDArray[np.float32], action: NDArray[np.float32]) -> str:
    """Hex SHA-256 of state and action alone: what a recording is known by, whatever is declared of it."""
    return hashlib.sha256(np.ascontiguousarray(state).tobytes() + np.ascontiguousarray(action).tobytes()).hexdigest()


def batch_digest(embodiment: Embodiment, episodes: list[str]) -> str:
    """Digest of a batch: its embodiment and its episodes' digests, in order."""
    return sha256_json({"embodiment": embodiment.digest, "episodes": episodes})
