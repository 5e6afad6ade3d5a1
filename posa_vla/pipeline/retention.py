"""What nobody needs any more, store by store, and its removal. Results that Prefect keeps are Prefect's own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator

from posa_vla.dataset.versions.remote_owners import claim
from posa_vla.objects.contract import REMOVED, Objects
from posa_vla.params import RetentionParams
from posa_vla.pipeline.retention_data import Item, Store, judged_data, remove_data
from posa_vla.pipeline.steps.bundle import sealed_trainings
from posa_vla.promotion.champion import promotions
from posa_vla.promotion.log import PromotionLog
from posa_vla.training.storage import forget_training
from posa_vla.workspace import Workspace

_FOLDERS: dict[Store, str] = {"trainings": "training", "evaluations": "evaluations", "bundles": "bundles"}
_DAY = 86_400.0


def clean_up(
    workspace: Workspace, retention: RetentionParams, *, dry_run: bool, sole_owner: bool = False
) -> list[Item]:
    """Removes what is old and what no registered model, record, release, approval or running flow needs.

    Whatever is removed and wanted again is computed anew by the step that made it. Episodes, data versions with all
    that they are made of, evidence, decisions, records and logs are never touched.

    Args:
        workspace: Held until the end, so that no flow is running meanwhile.
        retention: Days.
        dry_run: Only looks.
        sole_owner: A person says that no other repository uses the DVC remote; its marks are set accordingly.

    Returns:
        Everything that was looked at.

    Raises:
        Busy: A run holds the workspace.
        PosaError: MLflow or the storage is away: nothing is removed without knowing what is registered.
    """
    purpose = "a clean-up"
    with workspace.lock(purpose), workspace.lock(purpose, "data.lock"), promotions(workspace, purpose):
        items = [*_judged(workspace, retention), *judged_data(workspace, retention, sole_owner=sole_owner)]
        if not dry_run:
            if sole_owner and workspace.repository.exists():
                claim(workspace)
            _sweep(workspace)
            for item in items:
                if not item.kept:
                    _remove(workspace, item)
    return items


def _judged(workspace: Workspace, retention: RetentionParams) -> Iterator[Item]:
    bundles = needed_bundles(workspace)
    sealed: dict[str, list[str]] = {}
    for training, digest in sealed_trainings(workspace):
        sealed.setdefault(training, []).append(digest)
    stores: list[Objects] = [workspace.storage]
    if workspace.storage.place("bundles") != workspace.bundles:
        stores.append(_local(workspace))
    limits: dict[Store, int] = {
        "trainings": retention.trainings,
        "evaluations": retention.evaluations,
        "bundles": retention.bundles,
    }
    for store, days in limits.items():
        for name, (size, modified) in sorted(_found(stores, _FOLDERS[store]).items()):
            age = (time.time() - modified) / _DAY
            kept = ""
            if store != "evaluations":
                digests = [name] if store == "bundles" else sealed.get(name, [])
                kept = next((bundles[digest] for digest in digests if digest in bundles), "")
            if not kept and age < days:
                kept = f"younger than {days} days"
            yield Item(store=store, name=name, size=size, age=round(age, 1), kept=kept)


def _local(workspace: Workspace) -> Objects:
    from posa_vla.objects.directory import DirectoryObjects

    return DirectoryObjects(workspace.home)


def _found(stores: Iterable[Objects], folder: str) -> dict[str, tuple[int, float]]:
    """Size and time of what lies below a folder, by the first part of its path."""
    found: dict[str, tuple[int, float]] = {}
    for store in stores:
        for stored in store.stored(f"{folder}/"):
            name = stored.path.split("/")[1]
            if name.startswith(REMOVED):
                continue
            size, modified = found.get(name, (0, 0.0))
            found[name] = (size + stored.size, max(modified, stored.modified))
    return found


def needed_bundles(workspace: Workspace) -> dict[str, str]:
    """Why a bundle is needed, by its digest.

    Raises:
        BadInput: A promotion log or record is damaged.
        PosaError: MLflow is away.
    """
    from posa_vla.promotion.registry import BUNDLE, START, registered_tags
    from posa_vla.release.record import read_record

    needed: dict[str, str] = {}
    if workspace.settings.mlflow_tracking_uri or (workspace.home / "mlflow" / "mlflow.db").exists():
        needed |= dict.fromkeys(registered_tags(workspace.mlflow_uri, START), "what a registered model started from")
        needed |= dict.fromkeys(registered_tags(workspace.mlflow_uri, BUNDLE), "a registered model")
    for log in sorted(workspace.promotions.glob("*/log.jsonl")):
        for entry in PromotionLog(log).entries():
            needed[entry.bundle] = f"model version {entry.model_version} of {log.parent.name}"
    for path in sorted(workspace.promotions.glob("*/records/**/*.dsse.json")):
        record = read_record(path.read_bytes())
        needed[record.bundle_digest] = f"release {record.release} of {record.target}, out or waiting for approval"
    return needed


def _remove(workspace: Workspace, item: Item) -> None:
    if item.store not in _FOLDERS:
        remove_data(workspace, item.store, item.name)
        return
    if item.store == "trainings":
        forget_training(workspace.storage, item.name)
        return
    if item.store == "bundles":
        workspace.storage.delete(f"trees/bundles/{item.name}.json")  # first: by what follows it is found again
    for store in (workspace.storage, _local(workspace)):
        store.remove(f"{_FOLDERS[item.store]}/{item.name}/")


def _sweep(workspace: Workspace) -> None:
    """Takes away what a removal that was killed has left."""
    for folder in (*_FOLDERS.values(), f"trees/{_FOLDERS['trainings']}", "data", "incoming"):
        for place in (workspace.home / folder, workspace.storage.place(folder)):
            for left in place.glob(f"{REMOVED}*") if place is not None else ():
                shutil.rmtree(left, ignore_errors=True)
