"""Brings the store and the prepared data to a version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from posa_vla.console import progress
from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.report import read_report
from posa_vla.dataset.versions.clone import Clone, open_clone
from posa_vla.dataset.versions.history import Version, _store_names, _top, all_versions, find_version
from posa_vla.dataset.versions.make import publish_prepared
from posa_vla.dataset.versions.selection import SELECTION, read_selection
from posa_vla.dataset.versions.store_state import write_state
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, sha256_file, sync_folder, sync_tree, tree_manifest
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import read_yaml

_STEPS = 4


def _unsaved(root: Path, versions: list[Version]) -> list[str]:
    """What of an episode store no version has; decisions are made again, so that their content counts."""
    saved = {_top(path) for v in versions for path in v.record.store_files}
    digests = {(path, digest) for v in versions for path, digest in v.record.store_files.items()}
    names = _store_names(root)
    decisions = [name for name in names & saved if name.endswith(".json")]
    return sorted((names - saved) | {name for name in decisions if (name, sha256_file(root / name)) not in digests})


def checkout(workspace: Workspace, name: str) -> dict[str, Any]:
    """Makes episode store and prepared data exactly those of a version; twice the same changes nothing.

    What the store holds besides goes, for other versions have it: what no version has is never touched. Missing and
    damaged files come from DVC's cache or the remote, checked against the version's SHA-256 record. The caller holds
    the workspace's `data.lock`.

    Args:
        workspace: Whose store it is.
        name: Name of the version, see `find_version`.

    Returns:
        `version`, `name`, `folder` of the prepared data, `restored` and `removed` (names below the store).

    Raises:
        BadInput: There is no such version, or the store holds what no version has.
        PosaError: Neither cache nor remote have the bytes as they were.
    """
    with progress("checkout", _STEPS, unit="step") as advance, open_clone(workspace) as newest:
        versions = all_versions(newest)
        version = find_version(versions, name)
        if unsaved := _unsaved(workspace.store, versions):
            raise BadInput(
                f"{workspace.store / unsaved[0]} is in no version ({len(unsaved)} such): run `posa data version` "
                "first, so that it can come back"
            )
        with open_clone(workspace, version.commit) as clone:
            advance(1, "episodes")
            clone.restore_episodes()
            placed = clone.folder / "data" / "episodes"
            _require(tree_manifest(placed), version.record.store_files, f"{version.name}, from {workspace.dvc_remote}")
            advance(1, "prepared data")
            folder = _restore_prepared(workspace, clone, version)
            advance(1, "store")
            state = (version.name, version.record.version, EpisodeStore(placed).batches())
            write_state(workspace, *state, moving=True)
            restored, removed = _replace(workspace.store, placed, version.record.store_files)
            write_state(workspace, *state)
            advance(1, version.name)
    return {
        "version": version.record.version,
        "name": version.name,
        "folder": str(folder),
        "restored": restored,
        "removed": removed,
    }


def prepared_data(workspace: Workspace, name: str, code: Path | None = None) -> tuple[Version, Path]:
    """A version and its prepared data, made again from its episodes where need be; the store stays as it is.

    Args:
        workspace: Workspace that has the version.
        name: Name of the version, see `find_version`.
        code: Checkout whose code prepares them, if not this one's.

    Raises:
        BadInput: There is no such version.
        PosaError: See `checkout`.
    """
    with open_clone(workspace) as newest:
        version = find_version(all_versions(newest), name)
    folder = workspace.data / version.record.version
    if folder.is_dir() and tree_manifest(folder) == version.record.prepared_files:
        return version, folder
    with open_clone(workspace, version.commit) as clone:
        clone.restore_episodes()
        return version, _restore_prepared(workspace, clone, version, code)


def _require(found: dict[str, str], expected: dict[str, str], where: str) -> None:
    wrong = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
    if wrong:
        raise PosaError(
            f"{where}: {wrong[0]} is not what was recorded ({len(wrong)} files differ): restore the remote from its "
            "backup; nothing was changed here"
        )


def _restore_prepared(workspace: Workspace, clone: Clone, version: Version, code: Path | None = None) -> Path:
    """The version's prepared data, made again from its episodes where it is missing or damaged."""
    final = workspace.data / version.record.version
    if final.is_dir() and tree_manifest(final) == version.record.prepared_files:
        return final
    data = clone.folder / "data"
    shutil.rmtree(data / "prepared", ignore_errors=True)
    if code is None:
        params = parse(Params, read_yaml(clone.folder / "params.yaml"), "params.yaml of the version")
        embodiment = parse(Embodiment, read_json(clone.folder / "embodiment.json"), "embodiment.json of the version")
        report, where = read_report(data / "report.json"), read_selection(clone.folder / SELECTION)
        prepare(data / "episodes", report, embodiment, params.prepare, data / "prepared", where)
    else:
        clone.run_stage("prepare", code)
    if tree_manifest(data / "prepared") != version.record.prepared_files:
        made = read_json(clone.folder / "code.json")
        raise PosaError(
            f"{version.name} was prepared by other code (digest {str(made.get('posa_vla'))[:12]}), which gave other "
            "bytes: check out the code of its release record, and run this again there"
        )
    publish_prepared(data / "prepared", final, clone.folder / "damaged")
    return final


def _replace(root: Path, placed: Path, expected: dict[str, str]) -> tuple[list[str], list[str]]:
    """Brings the store to what was placed, one name at a time, each whole or not at all."""
    wanted = {_top(path) for path in expected}
    restored: list[str] = []
    for name in sorted(wanted):
        here = root / name
        files = {path: digest for path, digest in expected.items() if _top(path) == name}
        found = {f"{name}/{path}": d for path, d in tree_manifest(here).items()} if here.is_dir() else {}
        if here.is_file():
            found = {name: sha256_file(here)}
        if found == files:
            continue
        # The clone goes when the block ends, and with it what was damaged.
        if here.exists():
            os.rename(here, placed / f"damaged-{len(restored)}")
        here.parent.mkdir(parents=True, exist_ok=True)
        if (placed / name).is_dir():
            sync_tree(placed / name)
        os.rename(placed / name, here)
        sync_folder(here.parent)
        restored.append(name)
    removed = sorted(_store_names(root) - wanted)
    for name in removed:
        os.rename(root / name, placed / f"removed-{removed.index(name)}")
    return restored, removed
