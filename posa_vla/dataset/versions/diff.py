"""What differs between two versions of the data."""

from __future__ import annotations

from typing import Any

import yaml

from posa_vla.dataset.versions.clone import Clone, open_clone
from posa_vla.dataset.versions.history import Version, all_versions, find_version
from posa_vla.workspace import Workspace


def diff_versions(workspace: Workspace, first: str, second: str) -> dict[str, Any]:
    """How two versions differ: episodes that came and went, and how the statistics of the training data moved.

    Raises:
        BadInput: There is no such version.
        PosaError: git failed.
    """
    with open_clone(workspace) as clone:
        versions = all_versions(clone)
        a, b = find_version(versions, first), find_version(versions, second)
        statistics = [_json_at(clone, v.commit, "data/statistics.json") for v in (a, b)]
        params = [yaml.safe_load(clone.git("show", f"{v.commit}:params.yaml")) for v in (a, b)]
    before, after = a.record.episodes, b.record.episodes
    both = before.keys() & after.keys()
    return {
        "from": a.name,
        "to": b.name,
        "came": [_episode(d, b) for d in sorted(after.keys() - before.keys())],
        "went": [_episode(d, a) for d in sorted(before.keys() - after.keys())],
        "quarantined": [_episode(d, b) for d in sorted(both) if after[d].quarantined and not before[d].quarantined],
        "kept": sorted(set(b.record.kept) - set(a.record.kept)),
        "released": [_episode(d, b) for d in sorted(both) if before[d].quarantined and not after[d].quarantined],
        "splits": {"from": _splits(a), "to": _splits(b)},
        "labels": {"from": statistics[0].get("labels"), "to": statistics[1].get("labels")},
        "moved": _moved(*statistics),
        "params": _changed({k: params[0].get(k) for k in ("validation", "prepare")}, params[1]),
    }


def _json_at(clone: Clone, commit: str, path: str) -> dict[str, Any]:
    import json

    value = json.loads(clone.git("show", f"{commit}:{path}"))
    return value if isinstance(value, dict) else {}


def _episode(digest: str, version: Version) -> dict[str, Any]:
    return {"digest": digest, **version.record.episodes[digest].model_dump()}


def _splits(version: Version) -> dict[str, dict[str, int]]:
    return {name: split.model_dump() for name, split in version.record.splits.items()}


def _moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """For each vector's channels: change of the mean, in standard deviations of the first, and ratio of the spreads."""
    moved: dict[str, dict[str, list[float]]] = {}
    for name in ("state", "action"):
        a, b = before["normalisation"][name], after["normalisation"][name]
        if len(a["mean"]) != len(b["mean"]):
            continue
        spreads = [value if value > 1e-9 else 1.0 for value in a["std"]]
        moved[name] = {
            "mean_shift": [round((y - x) / s, 4) for x, y, s in zip(a["mean"], b["mean"], spreads, strict=True)],
            "spread_ratio": [round(y / s, 4) for y, s in zip(b["std"], spreads, strict=True)],
        }
    return moved


def _changed(before: dict[str, Any], after: dict[str, Any], path: str = "") -> dict[str, list[Any]]:
    changed: dict[str, list[Any]] = {}
    for key, old in before.items():
        new = after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= _changed(old, new, f"{path}{key}.")
        elif old != new:
            changed[f"{path}{key}"] = [old, new]
    return changed
