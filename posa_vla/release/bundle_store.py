"""A bundle on this machine, wherever it was sealed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.console import say
from posa_vla.errors import PosaError, Refused
from posa_vla.files import new_folder
from posa_vla.objects.trees import get_tree
from posa_vla.release.bundle import Bundle, verify_bundle
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher


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


def sound_bundle(workspace: Workspace, target: str, digest: str, publisher: Publisher) -> Bundle:
    """A bundle of the workspace, every byte verified; one that is lost or damaged is put back from channel or storage.

    Args:
        workspace: Which holds the bundle.
        target: Target whose channel may hold it too.
        digest: Of the bundle.
        publisher: Of that channel.

    Raises:
        PosaError: No copy is sound.
    """
    folder = workspace.bundles / digest
    try:
        verify_bundle(folder, digest)
        return Bundle(digest, folder)
    except Refused as error:
        damage = str(error)
    draft_of = folder.with_name(f".{digest}.again")
    shutil.rmtree(draft_of, ignore_errors=True)
    try:
        with new_folder(draft_of) as draft:
            _fetch_again(workspace, target, digest, publisher, draft)
    except PosaError as error:
        raise PosaError(f"{damage}; no other copy is sound ({error}): restore {folder} from a backup") from None
    shutil.rmtree(folder, ignore_errors=True)
    draft_of.rename(folder)
    say(f"bundle {digest[:12]} was damaged here ({damage}); it is put back, every byte verified")
    return Bundle(digest, folder)


def _fetch_again(workspace: Workspace, target: str, digest: str, publisher: Publisher, folder: Path) -> None:
    try:
        publisher.fetch_bundle(target, digest, folder)
    except PosaError as error:
        if workspace.storage.place(f"bundles/{digest}") is not None:  # the folder that is damaged
            raise
        try:
            source = get_tree(workspace.storage, f"bundles/{digest}", workspace.cache)
        except PosaError as other:
            raise PosaError(f"{error}; {other}") from None
        shutil.copytree(source, folder, dirs_exist_ok=True)
        verify_bundle(folder, digest)
