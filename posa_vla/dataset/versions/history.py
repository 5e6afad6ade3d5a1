"""The versions of the data: listed and found by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.dataset.versions.clone import NAME, Clone, open_clone
from posa_vla.dataset.versions.record import VersionRecord, read_record
from posa_vla.dataset.versions.store_state import read_state, require_whole
from posa_vla.errors import BadInput, did_you_mean
from posa_vla.workspace import Workspace


@dataclass(frozen=True)
class Version:
    """A named version.

    Attributes:
        name: `data-v<number>`.
        commit: Its commit in the workspace repository.
        when: Date of the commit, ISO 8601.
        record: What it is made of.
    """

    name: str
    commit: str
    when: str
    record: VersionRecord

    def summary(self) -> dict[str, Any]:
        """The version as `posa data versions` prints it."""
        return {
            "name": self.name,
            "version": self.record.version,
            "when": self.when,
            "embodiment": self.record.embodiment,
            "stored": len(self.record.episodes),
            "quarantined": sum(e.quarantined for e in self.record.episodes.values()) + len(self.record.kept),
            "prepared": sum(split.episodes for split in self.record.splits.values()),
            "frames": sum(split.frames for split in self.record.splits.values()),
            "commit": self.commit,
        }


def all_versions(clone: Clone) -> list[Version]:
    """All versions, oldest first."""
    found = []
    for name, commit in clone.names().items():
        record = read_record(clone, commit)
        if record is not None:
            found.append(Version(name, commit, clone.git("log", "-1", "--format=%cI", commit), record))
    return found


def list_versions(workspace: Workspace) -> list[Version]:
    """All versions of a workspace, oldest first; none where none was made.

    Raises:
        PosaError: git failed.
    """
    if not workspace.repository.exists():
        return []
    with open_clone(workspace) as clone:
        return all_versions(clone)


def version_numbers(workspace: Workspace) -> dict[str, int]:
    """Digest of a version -> how many were made before it. File times do not count: a restored backup changes them."""
    if not workspace.repository.exists():
        return {}
    with open_clone(workspace) as clone:
        digests = {commit: digest for digest, commit in clone.versions().items()}
        return {digests[commit]: n for n, commit in enumerate(clone.names().values()) if commit in digests}


def first_versions(versions: list[Version]) -> dict[str, int]:
    """Batch -> which of the versions, oldest first, is the first that has it."""
    counted = reversed(list(enumerate(versions)))
    return {entry.batch: number for number, version in counted for entry in version.record.episodes.values()}


def find_version(versions: list[Version], name: str) -> Version:
    """The version of a name, of the first digits of its digest, or `latest`.

    Raises:
        BadInput: No version has this name, or several digests begin with these digits.
    """
    if not versions:
        raise BadInput("there is no data version yet: `posa data ingest` or `posa data version` makes one")
    if name == "latest":
        return versions[-1]
    exact = [v for v in versions if v.name == name or v.name == f"{NAME}{name}"]
    found = exact or [v for v in versions if len(name) >= 4 and v.record.version.startswith(name)]
    if len({v.record.version for v in found}) != 1:
        what = "no data version" if not found else "more than one data version begins with"
        raise BadInput(f"{what} {name!r}; {did_you_mean(name, [v.name for v in versions])}")
    return found[-1]


def current_version(workspace: Workspace, versions: list[Version]) -> Version | None:
    """The version that was made of the store, or checked out, last; None where none was.

    Raises:
        BadInput: A checkout was cut off.
    """
    state = read_state(workspace)
    if state is not None:
        if state.moving:
            require_whole(workspace)
        return next((v for v in reversed(versions) if v.record.version == state.version), None)
    # A workspace of before there was a record of it: the newest version with just these episodes.
    names = _store_names(workspace.store)
    same = [v for v in versions if {_top(path) for path in v.record.store_files} == names]
    return same[-1] if same else None


def _top(path: str) -> str:
    return "/".join(path.split("/")[:2])


def _store_names(root: Path) -> set[str]:
    """`batches/<digest>`, `quarantine/<key>`, `quarantine/<file>` and `releases/<file>` of an episode store."""
    found = (p for top in ("batches", "quarantine", "releases") for p in (root / top).glob("*"))
    return {p.relative_to(root).as_posix() for p in found if not p.name.startswith(".")}
