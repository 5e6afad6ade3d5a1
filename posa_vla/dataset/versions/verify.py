"""Whether the data is what its history says, byte for byte: store, prepared data, cache, remote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posa_vla.console import progress
from posa_vla.dataset.versions.clone import open_clone
from posa_vla.dataset.versions.dvc_objects import LISTING, content_md5, episodes_object, listed, object_path
from posa_vla.dataset.versions.history import Version, all_versions, current_version, find_version
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import PosaError
from posa_vla.files import sha256_file
from posa_vla.objects.contract import Objects
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class Problem(Closed):
    """One file that is not what it must be.

    Attributes:
        where: `store`, `prepared`, `cache`, `remote`, or `history`.
        file: Path of the file.
        problem: What is wrong, in words.
        remedy: What to do.
    """

    where: str
    file: str
    problem: str
    remedy: str


def verify(workspace: Workspace, name: str = "", *, repair: bool = False) -> dict[str, Any]:
    """Reads every byte of a version's data and compares it with the history.

    Args:
        workspace: Workspace that has the data.
        name: Name of the version, see `find_version`; by default the version that the store is at, else the newest one.
        repair: Replaces damaged and missing objects of the remote by the cache's, and the other way round.

    Returns:
        `ok`, `version`, `name`, `files` and `objects` that were read, `repaired`, and `problems` (see `Problem`).

    Raises:
        BadInput: There is no such version.
        PosaError: git failed, or the remote is away.
    """
    with open_clone(workspace) as clone:
        versions = all_versions(clone)
        current = current_version(workspace, versions) or find_version(versions, "latest")
        version = find_version(versions, name) if name else current
        problems = [
            Problem(where="history", file=str(workspace.repository), problem=line, remedy="restore it from its backup")
            for line in clone.fsck()
        ]
        tree = episodes_object(clone.git("show", f"{version.commit}:data/episodes.dvc"))
    remote = open_objects(workspace.dvc_remote)
    objects, broken = _listed(remote, workspace.dvc_cache, tree)
    problems += broken
    prepared = workspace.data / version.record.version
    store_files, prepared_files = version.record.store_files, version.record.prepared_files
    store = EpisodeStore(workspace.store)
    # Of what a person took out the store holds nothing, and must not.
    taken_out = {removal.batch for removal in store.removed().values()} - set(store.batches())
    store_files = {p: d for p, d in store_files.items() if p.split("/")[1] not in taken_out}
    if version.record.version != current.record.version:
        # The store is at another version, and prepared data that were cleaned up are made again: no damage.
        here = {f"batches/{folder.name}" for folder in (workspace.store / "batches").glob("*")}
        store_files = {p: d for p, d in store_files.items() if "/".join(p.split("/")[:2]) in here}
        prepared_files = prepared_files if prepared.is_dir() else {}
    count = len(store_files) + len(prepared_files) + 2 * len(objects)
    repaired: list[str] = []
    with progress("verify", count, unit="file") as advance:
        remedy = f"posa data checkout {version.name}"
        for where, root, files in (
            ("store", workspace.store, store_files),
            ("prepared", prepared, prepared_files),
        ):
            for path, digest in files.items():
                problems += _file(where, root / path, digest, remedy)
                advance(1)
        problems += _strangers(workspace.store, version, remedy)
        for path, object_ in objects.items():
            found = list(_object(remote, workspace.dvc_cache, path, object_, repair, repaired))
            problems += found
            advance(2)
    return {
        "ok": not problems,
        "version": version.record.version,
        "name": version.name,
        "files": len(store_files) + len(prepared_files),
        "objects": len(objects),
        "repaired": repaired,
        "problems": [problem.model_dump() for problem in problems],
    }


def _file(where: str, path: Path, digest: str, remedy: str) -> Iterator[Problem]:
    if not path.is_file():
        yield Problem(where=where, file=str(path), problem="is missing", remedy=remedy)
    elif sha256_file(path) != digest:
        yield Problem(where=where, file=str(path), problem="is not what it was (SHA-256 differs)", remedy=remedy)


def _strangers(root: Path, version: Version, remedy: str) -> Iterator[Problem]:
    """Files within the version's batches that do not belong there."""
    known = {root / path for path in version.record.store_files}
    for batch in {path.split("/")[1] for path in version.record.store_files if path.startswith("batches/")}:
        for path in sorted((root / "batches" / batch).rglob("*")):
            if path.is_file() and path not in known:
                yield Problem(where="store", file=str(path), problem="is not part of its batch", remedy=remedy)


def _listed(remote: Objects, cache: Path, tree: str) -> tuple[dict[str, str], list[Problem]]:
    """Path of each object of a version -> its name, which is the hex MD5 of its content."""
    files = listed(tree, [remote, DirectoryObjects(cache)])
    if files is not None:
        return {object_path(name): name for name in (tree, *files)}, []
    remedy = "restore the remote from its backup"
    problem = "is missing or damaged, in the cache too: it lists the version's files"
    return {}, [Problem(where="remote", file=f"{remote.location}/{object_path(tree)}", problem=problem, remedy=remedy)]


def _object(remote: Objects, cache: Path, path: str, name: str, repair: bool, repaired: list[str]) -> Iterator[Problem]:
    digest = name.removesuffix(LISTING)
    there, here = content_md5(remote.read(path)), content_md5(DirectoryObjects(cache).read(path))
    if there != digest:
        file = f"{remote.location}/{path}"
        if repair and here == digest:
            # A copy, never a link: the second copy must survive what damages the first.
            remote.put_copy(path, cache / path)
            repaired.append(file)
        else:
            remedy = "posa data verify --repair" if here == digest else "restore the remote from its backup"
            word = "is missing" if there is None else "is damaged (MD5 differs)"
            yield Problem(where="remote", file=file, problem=word, remedy=remedy)
    # A cache may lack what was never needed here; what it has must be right.
    if here is not None and here != digest:
        if repair and there == digest:
            (cache / path).unlink()
            repaired.append(str(cache / path))
        else:
            remedy = "posa data verify --repair" if there == digest else "restore the remote from its backup"
            yield Problem(where="cache", file=str(cache / path), problem="is damaged (MD5 differs)", remedy=remedy)


def require_sound(report: dict[str, Any]) -> None:
    """Stops where verification found something.

    Raises:
        PosaError: A file is not what it must be; the message names the first such file and its remedy.
    """
    if not report["ok"]:
        first = report["problems"][0]
        more = f" ({len(report['problems'])} problems in all)" if len(report["problems"]) > 1 else ""
        raise PosaError(f"{first['file']} {first['problem']}{more}; remedy: {first['remedy']}")
