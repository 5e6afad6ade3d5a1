"""Takes a foreign dataset into the episode store, judges it, and versions the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows.data import DATA_WAIT, version_store
from flows.events import data_ingested
from posa_vla.console import progress, say
from posa_vla.dataset.ingest import Ingested, ingest
from posa_vla.dataset.validate import validate
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.embodiment import Embodiment, embodiment_file, load_embodiment
from posa_vla.episodes.episode import Source
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.lerobot_source import SourceDataset, open_source
from posa_vla.episodes.mapping import derived_embodiment, map_features, robot_id
from posa_vla.episodes.source_episode import SourceReader
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import require_free_space, safe_join, sha256_bytes, write_text
from posa_vla.objects import open_objects
from posa_vla.params import Params
from posa_vla.workspace import Workspace


@dataclass(frozen=True)
class Dataset:
    """A dataset to take in, and what its owner says of it.

    Attributes:
        location: Folder or `s3://BUCKET/PREFIX`.
        mapping: Feature -> what it is (see `posa_vla.episodes.mapping`).
        embodiment: Shipped name or file; empty for what `declarations` or the dataset itself shows.
        calibration: Calibration file, or None.
        origin: Where its episodes come from.
        declarations: Folder in which a derived embodiment is written down, for somebody to complete.
    """

    location: str
    declarations: Path
    mapping: dict[str, str] = field(default_factory=dict)
    embodiment: str = ""
    calibration: Path | None = None
    origin: Source = "teleop"


def ingest_dataset(workspace: Workspace, params: Params, dataset: Dataset) -> dict[str, Any]:
    """Takes a dataset in, validates the store, and makes a data version of it for the dataset's embodiment.

    Returns:
        `accepted` and `quarantined`: episodes of this dataset in the store that may and may not be learnt from;
        `new`: how many of both were not there before; `findings` about them (see `Finding`); `data_version` and its
        `name`, or None where there is nothing to learn from; `embodiment` and its `declaration` file.

    Raises:
        BadInput: It is no dataset, or its features are not declared well enough; the message proposes what to add.
        Busy: Another run went on changing the store for too long.
    """
    with _at_hand(workspace, dataset.location) as folder, workspace.lock("an ingestion", "data.lock", wait=DATA_WAIT):
        reader, declaration = _reader(open_source(folder), dataset)
        store = EpisodeStore(workspace.store)
        before = set(store.batches())
        done = ingest(store, reader)
        for batch in sorted(set(store.batches()) - before):
            data_ingested(batch, len(done.episodes), params.target)
        report = validate(
            workspace.store,
            params.validation,
            embodiment=reader.embodiment,
            validation_fraction=params.prepare.validation_fraction,
            cache=workspace.validated,
        )
        judged = _judged(store, done, report)
        version: dict[str, Any] | None = None
        if judged["accepted"]:
            version = version_store(workspace, params, reader.embodiment).output
        else:
            say("no episode of this dataset may be learnt from: no data version was made")
    return {
        **judged,
        "new": done.new,
        "data_version": version and version["version"],
        "name": version and version["name"],
        "folder": version and str(workspace.home / version["folder"]),
        "embodiment": reader.embodiment.id,
        "declaration": str(declaration),
        "batches": done.batches,
    }


def _reader(source: SourceDataset, dataset: Dataset) -> tuple[SourceReader, Path]:
    """The dataset with all that is declared of it, and the file of its embodiment."""
    if dataset.embodiment:
        path = embodiment_file(dataset.embodiment)
    else:
        path = dataset.declarations / f"{robot_id(source)}.yaml"
    if path.is_file():
        embodiment = load_embodiment(str(path))
        features = map_features(source, dataset.mapping, embodiment)
    else:
        features = map_features(source, dataset.mapping, None)
        embodiment = derived_embodiment(source, features)
        _declare(embodiment, path)
    calibration = None
    if dataset.calibration is not None:
        calibration = load_calibration(dataset.calibration, list(embodiment.cameras))
    kinematics = ForwardKinematics(embodiment, path.parent) if embodiment.kinematics is not None else None
    reader = SourceReader(
        source, features, embodiment, calibration=calibration, kinematics=kinematics, origin=dataset.origin
    )
    return reader, path


def _declare(embodiment: Embodiment, path: Path) -> None:
    text = yaml.safe_dump(embodiment.model_dump(mode="json", exclude_none=True), sort_keys=False)
    write_text(
        path,
        "# What the dataset shows of its robot. Complete it: units, limits (low, high), action_frame, kinematics,\n"
        "# gripper (docs/data.md says what each is). Until then what needs them is neither checked nor labelled.\n"
        + text,
    )
    say(f"{path} written: it declares what the dataset shows of its robot, complete it")


def _judged(store: EpisodeStore, done: Ingested, report: dict[str, Any]) -> dict[str, Any]:
    """What the report says of these episodes alone."""
    places = store.known()
    mine = {places[digest] for digest in done.episodes if digest in places}
    kept = set(done.kept)
    aside = {(row["batch"], row["episode"]) for row in report["quarantined"]}
    bad = {place for place in mine if place in aside or (place[0], None) in aside}
    findings = [
        finding
        for finding in report["findings"]
        if (finding["batch"], finding["episode"]) in mine
        or finding["batch"] in kept
        or (finding["episode"] is None and finding["batch"] in done.batches)
    ]
    remarks = [{"rule": rule, "severity": "warning", "value": value} for rule, value in done.remarks]
    return {"accepted": len(mine - bad), "quarantined": len(bad) + len(kept), "findings": findings + remarks}


@contextmanager
def _at_hand(workspace: Workspace, location: str) -> Iterator[Path]:
    """The dataset's folder; one in S3 is fetched first, and what a killed call has fetched is not fetched again."""
    if not location.startswith("s3://"):
        if "://" in location:
            raise BadInput(f"{location!r}: expected a folder or s3://BUCKET/PREFIX")
        try:
            folder = Path(location).expanduser()
        except RuntimeError as error:
            raise BadInput(f"{location!r}: {error}") from None
        yield folder
        return
    remote = open_objects(location)
    stored = list(remote.stored())
    if not stored:
        raise BadInput(f"{location} holds nothing, expected a LeRobot dataset")
    folder = workspace.home / "incoming" / sha256_bytes(location.encode())
    require_free_space(workspace.home, 2 * sum(item.size for item in stored), "fetching the dataset")
    name = Path(location.rstrip("/")).name
    with progress("fetch", sum(item.size for item in stored) >> 20, unit="MiB") as advance:
        fetched = 0
        for item in stored:
            if not item.path.endswith("/"):
                place = safe_join(folder / name, item.path)
                if not place.is_file() or place.stat().st_size != item.size:
                    remote.fetch(item.path, place)
            advance(((fetched + item.size) >> 20) - (fetched >> 20))
            fetched += item.size
    yield folder / name
    shutil.rmtree(folder, ignore_errors=True)
