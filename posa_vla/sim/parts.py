"""Finished blocks of demonstrations on disk: one safetensors file each, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
from safetensors.numpy import save

from posa_vla.episodes.content import CAMERA_VECTORS, VECTORS
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.errors import BadInput
from posa_vla.files import write_bytes
from posa_vla.params import CollectParams

_SCHEMA_VERSION = 1
# Frames of a demonstration, with head room: the expert needs about half as many.
_FRAMES = 40


def pictures_bytes(params: CollectParams, cameras: int) -> int:
    """Room that the pictures of a collection take at most, bytes."""
    return _FRAMES * params.episodes * cameras * 3 * params.image_size**2


def write_part(path: Path, episodes: list[Episode]) -> None:
    """Writes episodes to one file: arrays as tensors `<number>/<field>`, the rest as JSON in the file's metadata."""
    tensors: dict[str, Any] = {}
    headers = []
    for number, episode in enumerate(episodes):
        for field in VECTORS:
            value = getattr(episode, field)
            if value is not None:
                tensors[f"{number}/{field}"] = value
        for role, camera in episode.cameras.items():
            for field in ("images", *CAMERA_VECTORS):
                value = getattr(camera, field)
                if value is not None:
                    tensors[f"{number}/cameras/{role}/{field}"] = value
        headers.append(
            {
                "embodiment": episode.embodiment,
                "instruction": episode.instruction,
                "source": episode.source,
                "success": episode.success,
                "fps": episode.fps,
                "cameras": list(episode.cameras),
                "scene": episode.scene,
            }
        )
    metadata = {"schema_version": str(_SCHEMA_VERSION), "episodes": json.dumps(headers)}
    write_bytes(path, save(tensors, metadata=metadata))


def count_part(path: Path) -> int:
    """Number of episodes in a part; only its header is read.

    Raises:
        BadInput: The file is not a part of this version.
    """
    return len(_headers(path))


def _headers(path: Path) -> list[dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path} is damaged ({error}): delete it and run again") from None
    if metadata.get("schema_version") != str(_SCHEMA_VERSION):
        raise BadInput(
            f"{path} has schema_version {metadata.get('schema_version')}, expected {_SCHEMA_VERSION}: "
            "delete it and run again"
        )
    headers: list[dict[str, Any]] = json.loads(metadata["episodes"])  # noqa: TID251  # `write_part` wrote it
    return headers


def read_part(path: Path) -> list[Episode]:
    """Reads the episodes that `write_part` wrote.

    Raises:
        BadInput: The file is not a part of this version.
    """
    headers = _headers(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        names = set(file.keys())

        def tensor(name: str) -> Any:
            return file.get_tensor(name) if name in names else None

        episodes = []
        for number, header in enumerate(headers):
            cameras = {
                role: CameraTrack(
                    *(tensor(f"{number}/cameras/{role}/{field}") for field in ("images", "intrinsics", "pose"))
                )
                for role in header.pop("cameras")
            }
            fields = {field: tensor(f"{number}/{field}") for field in ("state", "action", "end_effector", "gripper")}
            episodes.append(Episode(cameras=cameras, **header, **fields))
    return episodes
