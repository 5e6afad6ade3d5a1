"""A bundle on this machine, wherever it was sealed."""

from __future__ import annotations

from pathlib import Path

from posa_vla.objects.trees import get_tree
from posa_vla.release.bundle import verify_bundle
from posa_vla.workspace import Workspace


def bundle_at_hand(workspace: Workspace, digest: str) -> Path:
    """The folder of a bundle, every byte verified; one that is not in this workspace comes from the storage.

    Raises:
        PosaError: Neither the workspace nor the storage has the bundle.
        Refused: A file of the bundle was changed.
    """
    folder = workspace.bundles / digest
    if not folder.is_dir():
        folder = get_tree(workspace.storage, f"bundles/{digest}", workspace.cache)
    verify_bundle(folder, digest)
    return folder
