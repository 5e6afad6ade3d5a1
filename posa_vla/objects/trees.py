"""Folders in a store of objects: there as a whole or not at all, verified when they are taken out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from posa_vla.errors import PosaError
from posa_vla.files import canonical_json, new_folder, safe_join, sha256_bytes, sha256_file
from posa_vla.objects.contract import Objects
from posa_vla.schema import Closed, parse_json


class TreeFile(Closed):
    """Size (bytes) and hex SHA-256 of a file."""

    size: int
    sha256: str


class Tree(Closed):
    """`trees/<path>.json`: the files of a folder, by relative path; written last, so that it means all of them."""

    schema_version: Literal[1] = 1
    files: dict[str, TreeFile]


def _manifest(path: str) -> str:
    return f"trees/{path}.json"


def has_tree(objects: Objects, path: str) -> bool:
    """Whether the folder was put as a whole and is still there."""
    place = objects.place(path)
    return objects.exists(_manifest(path)) and (place is None or place.is_dir())


def put_tree(objects: Objects, folder: Path, path: str) -> None:
    """Makes a folder whose files never change again available under `path`; twice the same changes nothing.

    A folder that lies at that very place is not copied.
    """
    if has_tree(objects, path):
        return
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    here = objects.place(path) == folder
    tree = {}
    for file in files:
        name = file.relative_to(folder).as_posix()
        tree[name] = TreeFile(size=file.stat().st_size, sha256=sha256_file(file))
        if not here:
            objects.put_file(f"{path}/{name}", file)
    objects.put(_manifest(path), canonical_json(Tree(files=tree).model_dump(mode="json")))


def get_tree(objects: Objects, path: str, cache: Path) -> Path:
    """The folder that was put under `path`, on this machine.

    Args:
        objects: The store.
        path: Name of the folder in the store.
        cache: Where folders of a store elsewhere are kept, named by their content; a process may be killed in between.

    Raises:
        PosaError: The folder was never put, or a file has changed since.
    """
    data = objects.get(_manifest(path))
    if data is None:
        raise PosaError(f"{objects.location} does not hold {path}, or only a part of it")
    tree = parse_json(Tree, data, f"{objects.location}/{_manifest(path)}")
    place = objects.place(path)
    if place is not None:
        for name, file in tree.files.items():
            there = safe_join(place, name)
            if not there.is_file() or there.stat().st_size != file.size or sha256_file(there) != file.sha256:
                raise PosaError(f"{there} is not what it was when it was put there: it was changed")
        return place
    folder = cache / sha256_bytes(data)
    if folder.is_dir():
        return folder
    with new_folder(folder) as draft:
        for name, file in tree.files.items():
            _take(objects, f"{path}/{name}", safe_join(draft, name), file)
    return folder


def _take(objects: Objects, path: str, out: Path, file: TreeFile) -> None:
    pieces = objects.read(path)
    if pieces is None:
        raise PosaError(f"{objects.location} has lost {path}")
    out.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with out.open("wb") as handle:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            handle.write(piece)
    if size != file.size or digest.hexdigest() != file.sha256:
        raise PosaError(f"{objects.location}: {path} is not what it was when it was put there: it was changed")
