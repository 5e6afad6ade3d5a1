"""A policy as a folder that is named by its content and holds nothing that could execute code."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posa_vla.errors import BadInput, Refused
from posa_vla.files import canonical_json, new_folder, sha256_bytes, sha256_file, write_bytes
from posa_vla.objects.trees import TreeFile
from posa_vla.policy.execution import Execution
from posa_vla.policy.made_for import EXECUTION_FILE, made_for_bytes
from posa_vla.schema import Closed, parse_json

MANIFEST = "manifest.json"
_SUFFIXES = (".json", ".safetensors")


class BundleManifest(Closed):
    """`manifest.json`: every other file of the bundle; the SHA-256 of its bytes is the bundle's digest."""

    schema_version: Literal[1] = 1
    files: dict[str, TreeFile]


@dataclass(frozen=True)
class Bundle:
    """A bundle on this machine.

    Attributes:
        digest: Hex SHA-256 of its manifest.
        folder: Where it lies.
    """

    digest: str
    folder: Path


def build_bundle(files: Path, bundles: Path, execution: Execution | None = None) -> Bundle:
    """Seals a policy's files; the same files give the same bundle, which is then left as it is.

    Args:
        files: Folder with the policy's files, flat, each JSON or safetensors.
        bundles: Parent of the bundle, which is named by its digest there.
        execution: What the policy is made for: the bundle says it, whatever the folder says. If None, what the folder
            says.

    Raises:
        BadInput: The folder holds anything else, or nothing.
    """
    sources = sorted(files.iterdir()) if files.is_dir() else []
    if not sources:
        raise BadInput(f"{files} holds no policy: expected its safetensors and JSON files")
    for source in sources:
        if source.is_symlink() or not source.is_file() or source.suffix not in _SUFFIXES or source.name == MANIFEST:
            raise BadInput(f"{source} cannot be part of a bundle: expected plain files ending in {_SUFFIXES}")
    told = {} if execution is None else {EXECUTION_FILE: made_for_bytes(execution)}
    sources = [source for source in sources if source.name not in told]
    listed = {s.name: TreeFile(size=s.stat().st_size, sha256=sha256_file(s)) for s in sources}
    listed |= {name: TreeFile(size=len(text), sha256=sha256_bytes(text)) for name, text in told.items()}
    manifest = BundleManifest(files=dict(sorted(listed.items())))
    data = canonical_json(manifest.model_dump(mode="json"))
    digest = sha256_bytes(data)
    folder = bundles / digest
    if not folder.exists():
        with new_folder(folder) as draft:
            for source in sources:
                shutil.copyfile(source, draft / source.name)
            for name, text in told.items():
                write_bytes(draft / name, text)
            write_bytes(draft / MANIFEST, data)
    verify_bundle(folder, digest)
    return Bundle(digest, folder)


def parse_manifest(data: bytes, digest: str, where: str) -> BundleManifest:
    """Reads a manifest whose bytes have the expected digest; nothing is parsed before that is known.

    Raises:
        Refused: The bytes have another digest, or are no manifest.
    """
    found = sha256_bytes(data)
    if found != digest:
        raise Refused(f"{where}: the manifest's SHA-256 is {found[:12]}, expected {digest[:12]}: it was changed")
    try:
        manifest = parse_json(BundleManifest, data, "manifest")
    except BadInput as error:
        raise Refused(f"{where}: no bundle manifest that this version reads: {error}") from None
    for name in manifest.files:
        if "/" in name or name.startswith(".") or not name.endswith(_SUFFIXES) or name == MANIFEST:
            raise Refused(f"{where}: the manifest names {name!r}, expected plain files ending in {_SUFFIXES}")
    return manifest


def verify_bundle(folder: Path, digest: str) -> BundleManifest:
    """Checks every byte of a bundle against its digest, and that nothing lies beside its files.

    Raises:
        Refused: A file is missing, changed, a link, or not in the manifest.
    """
    try:
        manifest = parse_manifest((folder / MANIFEST).read_bytes(), digest, f"bundle {folder}")
        there = {path.name for path in folder.iterdir()}
        expected = {MANIFEST, *manifest.files}
        if there != expected:
            raise Refused(
                f"bundle {folder}: missing {sorted(expected - there)}, not in its manifest {sorted(there - expected)}"
            )
        for name, file in manifest.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                raise Refused(f"bundle {folder}: {name} is not a plain file")
            if path.stat().st_size != file.size or sha256_file(path) != file.sha256:
                raise Refused(f"bundle {folder}: {name} is not what its manifest says: it was changed")
    except OSError as error:
        raise Refused(f"bundle {folder} cannot be read: {error}") from None
    return manifest


def sealed_policy(folder: Path, bundles: Path) -> Bundle:
    """A bundle as it is, verified, or one that is made below `bundles` of the folder that `posa train` printed.

    Raises:
        BadInput: The folder is neither.
        Refused: The bundle is not what its name says.
    """
    if not (folder / MANIFEST).is_file():
        return build_bundle(folder, bundles)
    verify_bundle(folder, folder.resolve().name)
    return Bundle(folder.resolve().name, folder.resolve())
