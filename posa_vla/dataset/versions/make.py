"""Making a version of the data: DVC keeps the bytes, the workspace repository their history."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from posa_vla.console import progress, say
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.validation.report import ValidationReport, read_report
from posa_vla.dataset.versions.clone import Clone, open_clone
from posa_vla.dataset.versions.record import RECORD, DataVersion, EpisodeEntry, VersionRecord, read_record
from posa_vla.dataset.versions.selection import SELECTION
from posa_vla.dataset.versions.store_state import require_unchanged, require_whole, write_state
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import (
    link_or_copy,
    new_folder,
    require_free_space,
    sha256_json,
    sync_folder,
    sync_tree,
    tree_manifest,
    write_json,
)
from posa_vla.params import Params
from posa_vla.params_file import write_params
from posa_vla.target_params import EVERYTHING, Where
from posa_vla.workspace import Workspace

# Commands that one version takes, for the progress bar.
_STEPS = 7


def place_episodes(store: EpisodeStore, target: Path) -> None:
    """Puts the store's content below `target` as links: batches never change, so one copy of the bytes serves all."""
    for batch in store.batches():
        shutil.copytree(store.folder(batch), target / "batches" / batch, copy_function=link_or_copy)
    for name in ("quarantine", "releases"):
        if (store.root / name).is_dir():
            ignored = shutil.ignore_patterns(".*")
            shutil.copytree(store.root / name, target / name, copy_function=link_or_copy, ignore=ignored)


def _place_prepared(workspace: Workspace, clone: Clone, versions: dict[str, str]) -> None:
    """Puts what the newest commit was prepared to back in its place: DVC redoes it only if an input changed."""
    newest = clone.git("rev-parse", "HEAD") if versions else None
    for version, commit in versions.items():
        if commit == newest and (workspace.data / version).is_dir():
            shutil.copytree(workspace.data / version, clone.folder / "data" / "prepared", copy_function=link_or_copy)


def _require_intact(workspace: Workspace, clone: Clone, files: dict[str, str]) -> None:
    """Stops where a batch is not what the newest version that has it knows it as."""
    names = reversed(clone.names().items())
    records = ((name, read_record(clone, commit)) for name, commit in names)
    known = ((name, record.store_files) for name, record in records if record is not None)
    require_unchanged(known, files, workspace.store)


def publish_prepared(prepared: Path, final: Path, aside: Path) -> None:
    """Moves prepared data to the folder that they stay in; the bytes are never copied.

    Args:
        prepared: The prepared data as they must be.
        final: Folder that the data stay in; data that lie there already stay if they are the same.
        aside: Folder that different data in `final` are moved to.
    """
    if final.exists():
        if tree_manifest(final) == tree_manifest(prepared):
            return
        say(f"{final} was damaged, and is made again")
        os.rename(final, aside)
    sync_tree(prepared)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.rename(prepared, final)
    sync_folder(final.parent)


def _entries(store: EpisodeStore, report: ValidationReport) -> dict[str, EpisodeEntry]:
    """The store's episodes that count, by digest."""
    replaced = store.replaced()
    aside = report.aside()
    entries: dict[str, EpisodeEntry] = {}
    for batch in store.batches():
        try:
            reader = DatasetReader(store.folder(batch))
        except BadInput:
            continue
        for record in reader.records:
            if record.extra.digest in replaced:
                continue
            entries[record.extra.digest] = EpisodeEntry(
                batch=batch,
                number=record.number,
                frames=record.length,
                instruction=record.instruction,
                quarantined=not aside.isdisjoint({(batch, record.number), (batch, None)}),
            )
    return entries


def version_data(
    workspace: Workspace, params: Params, embodiment: Embodiment, where: Where = EVERYTHING
) -> DataVersion:
    """Validates and prepares the store under DVC, pushes its bytes, and commits where they came from.

    Works in a clone of its own, which goes when it is done; what a killed call left is removed by the next one. The
    caller holds the workspace's `data.lock`.

    Args:
        workspace: Whose store is versioned.
        params: Written into the commit; `validation` and `prepare` decide the outcome.
        embodiment: Whose episodes are prepared.
        where: Filter that chooses among them.

    Raises:
        BadInput: The store is empty, has nothing to learn from, or was changed; git is missing, the disk has no room.
        PosaError: git or DVC failed.
    """
    require_whole(workspace)
    store = EpisodeStore(workspace.store)
    if not store.batches() and not store.quarantine.kept():
        raise BadInput(f"{store.root} holds no episodes: collect or ingest some (`posa data --help`)")
    size = sum(p.stat().st_size for p in store.root.rglob("*") if p.is_file())
    require_free_space(workspace.home, 2 * size, "versioning the data")
    with progress("version", _STEPS, unit="step") as advance, open_clone(workspace) as clone:
        write_params(clone.folder / "params.yaml", params)
        write_json(clone.folder / "embodiment.json", embodiment.model_dump(mode="json"))
        write_json(clone.folder / SELECTION, where.model_dump(mode="json"))
        versions, data = clone.versions(), clone.folder / "data"
        place_episodes(store, data / "episodes")
        placed = EpisodeStore(data / "episodes")
        files = tree_manifest(data / "episodes")
        _require_intact(workspace, clone, files)
        _place_prepared(workspace, clone, versions)
        advance(1, "dvc add")
        clone.dvc("add", "--quiet", "data/episodes")
        advance(1, "dvc repro")
        clone.dvc("repro")
        advance(1, "hash")
        report, manifest = read_report(data / "report.json"), read_manifest(data / "prepared")
        prepared = tree_manifest(data / "prepared")
        version = sha256_json({"episodes": placed.digest(), "prepared": prepared})
        record = VersionRecord(
            version=version,
            embodiment=embodiment.id,
            episodes=_entries(placed, report),
            splits=manifest.splits,
            store_files=files,
            prepared_files=prepared,
            kept=sorted(placed.quarantine.kept()),
        )
        write_json(clone.folder / RECORD, record.model_dump(mode="json"))
        advance(1, "dvc push")
        clone.push()
        advance(1, "commit")
        named = _commit(clone, record, versions)
        commit = clone.versions()[version] if version in versions else clone.git("rev-parse", "HEAD")
        advance(1, "publish")
        with new_folder(workspace.reports / version) as reports:
            for name in ("report.html", "report.json"):
                shutil.copyfile(data / name, reports / name)
        publish_prepared(data / "prepared", workspace.data / version, clone.folder / "damaged")
        write_state(workspace, named, version, placed.batches())
        advance(1, f"{named} {version[:12]}")
    return DataVersion(
        version=version,
        name=named,
        folder=(workspace.data / version).relative_to(workspace.home).as_posix(),
        episodes=sum(split.episodes for split in record.splits.values()),
        frames=sum(split.frames for split in record.splits.values()),
        commit=commit,
        prepared=sha256_json(record.prepared_files),
    )


def _commit(clone: Clone, record: VersionRecord, versions: dict[str, str]) -> str:
    """Commits and names a version once; returns its name."""
    if record.version in versions:
        commits = {commit: name for name, commit in clone.names().items()}
        if versions[record.version] in commits:
            return commits[versions[record.version]]
    clone.git("add", "--all")
    episodes = sum(split.episodes for split in record.splits.values())
    clone.git("commit", "--quiet", "--allow-empty", "--message", f"Data {record.version[:12]}: {episodes} episodes")
    return clone.publish(record.version)
