"""Which objects of DVC the data's history needs: the loop's versions, and people's own branches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from posa_vla.dataset.versions.clone import Clone
from posa_vla.dataset.versions.dvc_objects import LISTING, listed, object_path
from posa_vla.errors import BadInput, PosaError
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import parse_yaml

# Any MD5, however it is quoted: one too many costs room, one too few costs data.
_NAMES = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])(?:\.dir)?")


@dataclass(frozen=True)
class _DvcFile:
    """A file of DVC in some commit, with one of the places where it is, for messages."""

    text: str
    path: str
    commit: str

    def names(self) -> set[str]:
        """Every object that the history could name."""
        return set(_NAMES.findall(self.text))

    def pushed_listings(self) -> set[str]:
        """Listings that `dvc push` brings to the remote: without them nobody knows what else is needed.

        A lock file does not tell outputs that are cached from others: prepared data, whose listing nobody keeps.
        """
        if not self.path.endswith(".dvc"):
            return set()
        try:
            value = parse_yaml(self.text, self.path)
            imported = any("repo" in dependency for dependency in value.get("deps", []))
            outputs = [out for out in value["outs"] if not imported and _is_pushed(out)]
            return {str(out["md5"]) for out in outputs if str(out.get("md5", "")).endswith(LISTING)}
        except (BadInput, AttributeError, KeyError, TypeError):
            return {name for name in self.names() if name.endswith(LISTING)}


def _is_pushed(out: dict[str, Any]) -> bool:
    return out.get("cache", True) is not False and out.get("push", True) is not False and "remote" not in out


def named_objects(workspace: Workspace, clone: Clone) -> set[str]:
    """Paths, in DVC's cache and remote, of everything that any commit of any ref of the repository names.

    Args:
        workspace: Workspace whose history is read.
        clone: Gives git. The repository itself is read, because it has refs that no clone gets.

    Raises:
        PosaError: A folder's listing is missing or damaged everywhere, so that nobody can tell which objects it names.
    """
    names: set[str] = set()
    places = [DirectoryObjects(workspace.dvc_cache), open_objects(workspace.dvc_remote)]
    read: dict[str, list[str] | None] = {}
    for file in _dvc_files(workspace, clone):
        required = file.pushed_listings()
        names |= file.names()
        for name in file.names():
            if not name.endswith(LISTING):
                continue
            if name not in read:
                read[name] = listed(name, places)
            if read[name] is None and (name in required or any(place.exists(object_path(name)) for place in places)):
                raise PosaError(
                    f"{object_path(name)}, the listing of {file.path} in commit {file.commit[:12]}, is missing or "
                    "damaged, and in neither cache nor remote as it was, so that nobody knows which objects that "
                    f"commit needs; nothing was removed. `posa data verify` says more; for a branch of your own, "
                    "`dvc push` it from where you made it, or delete the branch"
                )
            names.update(read[name] or [])
    return {object_path(name) for name in names}


def _dvc_files(workspace: Workspace, clone: Clone) -> list[_DvcFile]:
    """Every `*.dvc` and `dvc.lock` of every commit, each content once for each kind."""
    repository = workspace.repository
    listing = clone.git("log", "--all", "--format=%T %H", folder=repository)
    commits = dict(line.split() for line in listing.splitlines())
    places: dict[tuple[str, bool], tuple[str, str]] = {}
    for tree, commit in commits.items():
        # Zeros between the entries: git quotes unusual paths otherwise.
        for entry in clone.git("ls-tree", "-r", "-z", "--full-tree", tree, folder=repository).split("\0"):
            described, _, path = entry.partition("\t")
            if path.endswith(".dvc") or path.rpartition("/")[2] == "dvc.lock":
                places[described.split()[2], path.endswith(".dvc")] = (path, commit)
    return [
        _DvcFile(clone.git("cat-file", "blob", blob, folder=repository), path, commit)
        for (blob, _), (path, commit) in places.items()
    ]
