"""The versions that there are: listed, compared, brought back."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posa_vla.console import progress
from posa_vla.dataset.prepare import prepare
from posa_vla.dataset.store_state import read_state, require_whole, write_state
from posa_vla.dataset.versioning import VersionRecord, publish_prepared, read_record
from posa_vla.dataset.versioning_clone import NAME, Clone, open_clone
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput, PosaError, did_you_mean
from posa_vla.files import read_json, sha256_file, sync_folder, sync_tree, tree_manifest
from posa_vla.params import Params
from posa_vla.schema import parse
from posa_vla.workspace import Workspace

_STEPS = 4
# The stage `prepare` of dvc.yaml, by hand.
_PREPARE = (
    *("data", "prepare", "--store", "data/episodes", "--report", "data/report.json", "--embodiment", "embodiment.json"),
    *("--params", "params.yaml", "--out", "data/prepared", "--statistics", "data/statistics-again.json"),
)


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
        """As `posa data versions` prints it."""
        return {
            "name": self.name,
            "version": self.record.version,
            "when": self.when,
            "embodiment": self.record.embodiment,
            "stored": len(self.record.episodes),
            "quarantined": sum(e.quarantined for e in self.record.episodes.values()) + len(self.record.kept),
            "prepared": sum(split["episodes"] for split in self.record.splits.values()),
            "frames": sum(split["frames"] for split in self.record.splits.values()),
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
    """Digest -> how many versions were made before it; a file's time is not asked, which a restored backup changes."""
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
        BadInput: There is none, or several begin so.
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


def _unsaved(root: Path, versions: list[Version]) -> list[str]:
    """What of an episode store no version has; decisions are made again, so that their content counts."""
    saved = {_top(path) for v in versions for path in v.record.store_files}
    digests = {(path, digest) for v in versions for path, digest in v.record.store_files.items()}
    names = _store_names(root)
    decisions = [name for name in names & saved if name.endswith(".json")]
    return sorted((names - saved) | {name for name in decisions if (name, sha256_file(root / name)) not in digests})


def diff_versions(workspace: Workspace, first: str, second: str) -> dict[str, Any]:
    """How two versions differ: episodes that came and went, and how the statistics of the training data moved.

    Raises:
        BadInput: There is no such version.
        PosaError: git failed.
    """
    with open_clone(workspace) as clone:
        versions = all_versions(clone)
        a, b = find_version(versions, first), find_version(versions, second)
        statistics = [_json_at(clone, v.commit, "data/statistics.json") for v in (a, b)]
        params = [yaml.safe_load(clone.git("show", f"{v.commit}:params.yaml")) for v in (a, b)]
    before, after = a.record.episodes, b.record.episodes
    both = before.keys() & after.keys()
    return {
        "from": a.name,
        "to": b.name,
        "came": [_episode(d, b) for d in sorted(after.keys() - before.keys())],
        "went": [_episode(d, a) for d in sorted(before.keys() - after.keys())],
        "quarantined": [_episode(d, b) for d in sorted(both) if after[d].quarantined and not before[d].quarantined],
        "kept": sorted(set(b.record.kept) - set(a.record.kept)),
        "released": [_episode(d, b) for d in sorted(both) if before[d].quarantined and not after[d].quarantined],
        "splits": {"from": a.record.splits, "to": b.record.splits},
        "labels": {"from": statistics[0].get("labels"), "to": statistics[1].get("labels")},
        "moved": _moved(*statistics),
        "params": _changed({k: params[0].get(k) for k in ("validation", "prepare")}, params[1]),
    }


def _json_at(clone: Clone, commit: str, path: str) -> dict[str, Any]:
    import json

    value = json.loads(clone.git("show", f"{commit}:{path}"))
    return value if isinstance(value, dict) else {}


def _episode(digest: str, version: Version) -> dict[str, Any]:
    return {"digest": digest, **version.record.episodes[digest].model_dump()}


def _moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """For each vector's channels: change of the mean, in standard deviations of the first, and ratio of the spreads."""
    moved: dict[str, dict[str, list[float]]] = {}
    for name in ("state", "action"):
        a, b = before["normalisation"][name], after["normalisation"][name]
        if len(a["mean"]) != len(b["mean"]):
            continue
        spreads = [value if value > 1e-9 else 1.0 for value in a["std"]]
        moved[name] = {
            "mean_shift": [round((y - x) / s, 4) for x, y, s in zip(a["mean"], b["mean"], spreads, strict=True)],
            "spread_ratio": [round(y / s, 4) for y, s in zip(b["std"], spreads, strict=True)],
        }
    return moved


def _changed(before: dict[str, Any], after: dict[str, Any], path: str = "") -> dict[str, list[Any]]:
    changed: dict[str, list[Any]] = {}
    for key, old in before.items():
        new = after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed |= _changed(old, new, f"{path}{key}.")
        elif old != new:
            changed[f"{path}{key}"] = [old, new]
    return changed


def checkout(workspace: Workspace, name: str) -> dict[str, Any]:
    """Makes episode store and prepared data exactly those of a version; twice the same changes nothing.

    What the store holds besides goes, for other versions have it: what no version has is never touched. Missing and
    damaged files come from DVC's cache or the remote, checked against the version's SHA-256 record. The caller holds
    the workspace's `data.lock`.

    Args:
        workspace: Whose store it is.
        name: See `find_version`.

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
        workspace: Whose version.
        name: See `find_version`.
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
        params = parse(Params, yaml.safe_load((clone.folder / "params.yaml").read_text()), "params.yaml of the version")
        embodiment = parse(Embodiment, read_json(clone.folder / "embodiment.json"), "embodiment.json of the version")
        prepare(data / "episodes", read_json(data / "report.json"), embodiment, params.prepare, data / "prepared")
    else:
        clone.run_posa(code, _PREPARE)
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
