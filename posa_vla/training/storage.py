"""Paths and rows that a training leaves in the storage."""

from __future__ import annotations

import json
from collections.abc import Iterator

from posa_vla.objects.contract import Objects

Row = tuple[int, dict[str, float]]


def training_path(key: str) -> str:
    """Folder of a training: `metrics/`, `policy`, and `ray/`, its checkpoints, until it is done."""
    return f"training/{key}"


def policy_path(key: str) -> str:
    """Tree of the finished policy's files."""
    return f"{training_path(key)}/policy"


def metrics_paths(objects: Objects, key: str) -> list[str]:
    """Objects with rows of metrics, in the order of their steps."""
    return objects.list(f"{training_path(key)}/metrics/")


def put_metrics(objects: Objects, folder: str, rows: list[Row]) -> None:
    """Writes rows to an object named by the last step, so that a resumed training replaces the rows it repeats."""
    objects.put(f"{folder}/metrics/{rows[-1][0]:09d}.json", json.dumps(rows).encode())


def get_metrics(objects: Objects, path: str) -> list[Row]:
    """Rows of one object."""
    data = objects.get(path)
    return [] if data is None else [(int(step), values) for step, values in json.loads(data)]  # noqa: TID251  # our own


def all_metrics(objects: Objects, key: str) -> Iterator[Row]:
    """Rows of a training, in the order of their steps; a resumed training may repeat some."""
    for path in metrics_paths(objects, key):
        yield from get_metrics(objects, path)


def forget_training(objects: Objects, key: str) -> None:
    """Removes a training; the policy's tree goes first, so that a half-removed training is done again."""
    objects.remove(f"trees/{training_path(key)}/")
    objects.delete(f"{training_path(key)}/ray/checkpoint_manager_snapshot.json")
    objects.remove(f"{training_path(key)}/")
