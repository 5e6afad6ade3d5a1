"""Manifests of prepared data whose shards no test reads."""

from __future__ import annotations

from pathlib import Path

from posa_vla.dataset.shards.manifest import MANIFEST, LabelShare, PreparedManifest, SplitCount
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.files import write_json


def make_manifest(
    embodiment: Embodiment, *, train: int = 0, validation: int = 0, source: str = "", task: float | None = None
) -> PreparedManifest:
    """The manifest of so many episodes; `task` is the share of frames with a task label, where they were counted."""
    share = {} if task is None else {role: LabelShare(task=task, end_effector=1) for role in embodiment.cameras}
    return PreparedManifest(
        labels=share,
        embodiment=embodiment,
        image_size=32,
        cameras=list(embodiment.cameras),
        captions=["go"],
        state_dim=len(embodiment.state),
        action_dim=len(embodiment.action),
        fps=10,
        splits={"train": SplitCount(episodes=train, frames=0), "validation": SplitCount(episodes=validation, frames=0)},
        source_digest=source,
    )


def write_manifest(
    folder: Path,
    embodiment: Embodiment,
    *,
    train: int = 0,
    validation: int = 0,
    source: str = "",
    task: float | None = None,
) -> Path:
    """Writes the manifest of so many episodes; returns its path."""
    manifest = make_manifest(embodiment, train=train, validation=validation, source=source, task=task)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return folder / MANIFEST
