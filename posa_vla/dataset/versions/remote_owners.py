"""Whose objects a DVC remote holds: each workspace repository leaves its mark there before its first object.

An object that one repository does not name may be all that is left of another's version, so that nobody cleans up a
remote which is not provably its own alone. A mark stands for one repository in one place: a copy of it, or a backup
that was restored, may know less than the remote holds, and is another owner.
"""

from __future__ import annotations

import uuid
from typing import Literal

from posa_vla.dataset.versions.dvc_objects import OBJECTS
from posa_vla.files import canonical_json, read_text, write_text
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

_MARKS = "posa/owners/"
# Stands for whoever brought the objects that were there before the first mark.
_UNKNOWN = f"{_MARKS}unknown"


class Owner(Closed):
    """A mark's content, for people.

    Attributes:
        workspace: Where the repository that pushed lies on its machine; empty where nobody knows.
    """

    schema_version: Literal[1] = 1
    workspace: str


def _mark(workspace: Workspace) -> str:
    """Path of this repository's mark on a remote; the repository is named by this at its first use."""
    place = workspace.repository / "posa-id"
    if not place.is_file():
        write_text(place, uuid.uuid4().hex + "\n")
    # The inode tells a copy or a restored backup, which have the id too, from the original.
    return f"{_MARKS}{read_text(place).strip()}-{workspace.repository.stat().st_ino}"


def leave_mark(workspace: Workspace) -> None:
    """Leaves this repository's mark on the remote, before its first object.

    Raises:
        PosaError: The remote does not answer.
    """
    remote, mine = open_objects(workspace.dvc_remote), _mark(workspace)
    marks = remote.list(_MARKS)
    if mine in marks:
        return
    if not marks and _holds_objects(remote):
        # First: a kill in between must not leave this repository as the only owner.
        remote.put(_UNKNOWN, canonical_json(Owner(workspace="").model_dump()))
    _put(remote, workspace, mine)


def claim(workspace: Workspace) -> None:
    """Makes this repository the remote's only owner, because a person says that it is.

    Raises:
        PosaError: The remote does not answer.
    """
    remote, mine = open_objects(workspace.dvc_remote), _mark(workspace)
    _put(remote, workspace, mine)
    for mark in remote.list(_MARKS):
        if mark != mine:
            remote.delete(mark)


def other_owners(workspace: Workspace) -> str:
    """Why the remote may hold objects that others need; empty where this repository is its only owner.

    Raises:
        PosaError: The remote does not answer.
    """
    remote = open_objects(workspace.dvc_remote)
    marks, mine = remote.list(_MARKS), _mark(workspace)
    if others := [mark for mark in marks if mark != mine]:
        return f"the remote is not this repository's alone: {', '.join(others)}"
    if mine not in marks and _holds_objects(remote):
        return "nobody knows whose the remote is: it has no mark of this repository"
    return ""


def _holds_objects(remote: Objects) -> bool:
    return next(iter(remote.stored(OBJECTS)), None) is not None


def _put(remote: Objects, workspace: Workspace, mark: str) -> None:
    remote.put(mark, canonical_json(Owner(workspace=str(workspace.home)).model_dump()))
