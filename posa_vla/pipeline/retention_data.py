"""What nobody needs any more of the data: prepared folders, objects of DVC that no version names, fetched datasets."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from posa_vla.dataset.versions.clone import open_clone
from posa_vla.dataset.versions.dvc_objects import LISTING, OBJECTS, listed, object_name, object_path
from posa_vla.dataset.versions.history import version_numbers
from posa_vla.dataset.versions.named_objects import named_objects
from posa_vla.dataset.versions.remote_owners import other_owners
from posa_vla.dataset.versions.store_state import read_state
from posa_vla.errors import PosaError
from posa_vla.objects.contract import REMOVED, Objects
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.objects.open import open_objects
from posa_vla.params import RetentionParams
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

Store = Literal["trainings", "evaluations", "bundles", "prepared", "dvc-cache", "dvc-remote", "incoming"]


class Item(Closed):
    """One thing in a store.

    Attributes:
        store: Which.
        name: Key or digest of the thing.
        size: Bytes.
        age: Days since anything in it was written.
        kept: Why it stays; empty for what goes.
    """

    store: Store
    name: str
    size: int
    age: float
    kept: str


_DAY = 86_400.0


def judged_data(workspace: Workspace, retention: RetentionParams, *, sole_owner: bool = False) -> Iterator[Item]:
    """Everything of the data that could go, in the order of removal, and why it stays where it does.

    Args:
        workspace: Whose data.
        retention: Days.
        sole_owner: A person says that the remote is this repository's alone; else its marks must say so.

    Raises:
        PosaError: MLflow, the remote or git is away, or a listing of objects is damaged: nothing goes without knowing
            what is needed.
    """
    yield from _prepared(workspace, retention)
    if workspace.repository.exists():
        with open_clone(workspace) as clone:
            named = named_objects(workspace, clone)
        others = "" if sole_owner else other_owners(workspace)
        for store, objects in _object_stores(workspace):
            yield from _objects(store, objects, named, others if store == "dvc-remote" else "", retention.objects)
    for folder in sorted((workspace.home / "incoming").glob("*")):
        if not folder.name.startswith(REMOVED):
            yield _item("incoming", folder.name, *_measured(folder), "", retention.objects)


def _objects(store: Store, objects: Objects, named: set[str], others: str, days: int) -> Iterator[Item]:
    """Objects of DVC, listings first.

    DVC takes a folder for whole where its listing is: one must not outlive its files, whatever is killed when.
    """
    listings = set[str]()
    for stored in sorted(objects.stored(OBJECTS), key=lambda stored: not stored.path.endswith(LISTING)):
        needed = others
        if stored.path in named:
            needed = "a data version or a branch"
        elif stored.path in listings:
            needed = "a folder that stays"
        item = _item(store, stored.path, stored.size, stored.modified, needed, days)
        if item.kept and not needed and stored.path.endswith(LISTING):
            listings.update(object_path(name) for name in listed(object_name(stored.path), [objects]) or ())
        yield item


def _item(store: Store, name: str, size: int, modified: float, needed: str, days: int) -> Item:
    age = (time.time() - modified) / _DAY
    kept = needed or (f"younger than {days} days" if age < days else "")
    return Item(store=store, name=name, size=size, age=round(age, 1), kept=kept)


def _object_stores(workspace: Workspace) -> list[tuple[Store, Objects]]:
    cache: list[tuple[Store, Objects]] = [("dvc-cache", DirectoryObjects(workspace.dvc_cache))]
    return [*cache, ("dvc-remote", open_objects(workspace.dvc_remote))]


def _prepared(workspace: Workspace, retention: RetentionParams) -> Iterator[Item]:
    """Prepared data: made again from the episodes where it is wanted, so that only what is in use stays for good."""
    folders = [folder for folder in workspace.data.glob("*") if not folder.name.startswith((".", REMOVED))]
    if not folders:
        return
    needed = dict.fromkeys(_registered(workspace), "a registered model")
    numbers = version_numbers(workspace)
    newest = max(folders, key=lambda folder: numbers.get(folder.name, -1))
    needed[newest.name] = "the newest"
    state = read_state(workspace)
    if state is not None:
        needed[state.version] = "the version that the store is at"
    for folder in sorted(folders):
        yield _item("prepared", folder.name, *_measured(folder), needed.get(folder.name, ""), retention.prepared)


def _registered(workspace: Workspace) -> set[str]:
    from posa_vla.promotion.registry import DATA_VERSION, registered_tags
    from posa_vla.release.record import read_record

    records = sorted(workspace.promotions.glob("*/records/**/*.dsse.json"))
    named = {read_record(path.read_bytes()).data_version for path in records}
    if workspace.settings.mlflow_tracking_uri or (workspace.home / "mlflow" / "mlflow.db").exists():
        named |= registered_tags(workspace.mlflow_uri, DATA_VERSION)
    return named


def _measured(folder: Path) -> tuple[int, float]:
    """Bytes below a folder, and when something in it was last written."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()] or [folder.stat()]
    return sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)


def remove_data(workspace: Workspace, store: Store, name: str) -> None:
    """Removes one thing; a folder is gone as a whole at once."""
    for kind, objects in _object_stores(workspace):
        if kind == store:
            # Asked each time: another repository may have come while this one was looking.
            if store == "dvc-remote" and (others := other_owners(workspace)):
                raise PosaError(f"{objects.location}: {others}; it came meanwhile: what is left stays, run again")
            objects.delete(name)
            return
    if store == "prepared":
        # Its copy for Ray's nodes; the record goes first: it says that the folder is there as a whole.
        workspace.storage.delete(f"trees/data/{name}.json")
        if workspace.storage.place("data") != workspace.data:
            workspace.storage.remove(f"data/{name}/")
    parent = {"prepared": workspace.data, "incoming": workspace.home / "incoming"}.get(store)
    if parent is None:
        raise PosaError(f"{store} holds no data: this is a fault of posa-vla, please report it")
    removed = parent / f"{REMOVED}{name}"
    os.rename(parent / name, removed)
    shutil.rmtree(removed, ignore_errors=True)
