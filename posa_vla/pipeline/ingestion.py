"""Takes a foreign dataset into the episode store, judges it, and versions the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from posa_vla.console import say
from posa_vla.dataset.exchange.ingest import Ingested, ingest
from posa_vla.dataset.exchange.recordings import Recordings
from posa_vla.dataset.shards.manifest import read_manifest, untaught
from posa_vla.dataset.shards.prepare import nothing_to_learn
from posa_vla.dataset.shards.taken_frames import require_ratio
from posa_vla.dataset.validation.findings import Finding, remedy_of, severity_of
from posa_vla.dataset.validation.report import ValidationReport
from posa_vla.dataset.validation.validate import validate
from posa_vla.dataset.versions.history_tools import require_tools
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.dataset.versions.store_state import require_whole
from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.embodiment import Embodiment, embodiment_file, load_embodiment
from posa_vla.episodes.episode import Source
from posa_vla.episodes.foreign.arms import arms_like, as_arm, chain_folder, copy_chain, is_arm, shipped_arms
from posa_vla.episodes.foreign.dataset import SourceDataset, open_source
from posa_vla.episodes.foreign.fit import require_fit
from posa_vla.episodes.foreign.mapping import derived_embodiment, map_features, parts_of, robot_id
from posa_vla.episodes.foreign.proposals import grippers_beside
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.foreign.robots import first_recording, robot_of, unnamed
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.lerobot.reader import DatasetReader
from posa_vla.episodes.store.declared import declared_embodiments, require_meant_alike
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import write_text
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announce, DataIngested, silent
from posa_vla.pipeline.incoming import at_hand
from posa_vla.pipeline.learnable import require_learnable
from posa_vla.pipeline.steps.version import DATA_WAIT, version_store
from posa_vla.pipeline.target import filter_for
from posa_vla.schema import Closed
from posa_vla.sim.gl import require_gl
from posa_vla.validation_params import ValidateParams
from posa_vla.workspace import Workspace
from posa_vla.yaml_file import yaml_text


@dataclass(frozen=True)
class Dataset:
    """A dataset to take in, and what its owner says of it.

    Attributes:
        location: Folder or `s3://BUCKET/PREFIX`.
        mapping: Part or camera role -> the features that are it (see `posa_vla.episodes.foreign.mapping.parse_map`).
        embodiment: Shipped name or file; empty for what `declarations` or the dataset itself shows.
        calibration: Calibration file, or None.
        origin: Where its episodes come from.
        resample: Whether it may have another rate than its embodiment is controlled at (`prepare.resample`).
        arm: Shipped arm that the robot is, where the dataset's own declaration is to be derived; empty for none.
        declarations: Folder in which a derived embodiment is written down, for somebody to complete.
    """

    location: str
    declarations: Path
    mapping: dict[str, list[str]] = field(default_factory=dict)
    embodiment: str = ""
    calibration: Path | None = None
    origin: Source = "teleop"
    arm: str = ""
    resample: bool = False


class Judged(Closed):
    """What the validation says of a dataset's episodes.

    Attributes:
        accepted: Episodes in the store that a policy may learn from.
        quarantined: Episodes that it may not learn from.
        findings: What was found of them.
    """

    accepted: int
    quarantined: int
    findings: list[Finding]


class Ingestion(Judged):
    """The document of `posa data ingest --json`.

    Attributes:
        new: Episodes that were not there before, accepted and quarantined.
        superseded: Stored episodes of the same recordings in whose place the new ones count.
        data_version: Digest of the data version; None where there is nothing to learn from.
        name: Name of the data version; None where there is none.
        folder: Where its prepared data lie; None where there is no data version.
        embodiment: Id of the dataset's robot.
        declaration: File that declares it.
        batches: Digests of the batches that hold episodes of the dataset.
        labelled: Share of the data version's frames with a task label, over all cameras; None without a version.
    """

    new: int
    superseded: int
    data_version: str | None
    name: str | None
    folder: str | None
    embodiment: str
    declaration: str
    batches: list[str]
    labelled: float | None


def ingest_dataset(workspace: Workspace, params: Params, dataset: Dataset, announce: Announce = silent) -> Ingestion:
    """Takes a dataset in, validates the store, and makes a data version of it for the dataset's embodiment.

    Raises:
        BadInput: DVC or git is not installed; the store is incomplete; it is no dataset, or its features are not
            declared well enough, and the message proposes what to add; or nothing can be learned from it, because of a
            mistake that is in all of its episodes. Nothing has come in.
        Busy: Another run went on changing the store for too long.
    """
    require_tools()
    require_whole(workspace)
    with at_hand(workspace, dataset.location) as folder, workspace.lock("an ingestion", "data.lock", wait=DATA_WAIT):
        require_whole(workspace)
        store = EpisodeStore(workspace.store)
        resample = params.prepare.resample
        reader, declaration = open_reader(open_source(folder), replace(dataset, resample=resample), store)
        if resample:
            require_ratio(reader.embodiment.control_hz, reader.declared.control_hz, str(folder))
        _require_one_meaning(store, reader.declared, resample=resample)
        lacks = [role for role in reader.declared.cameras if role not in reader.embodiment.cameras]
        if lacks:
            say(f"the dataset lacks the camera {', '.join(lacks)}: it is masked in training on these episodes")
        if not reader.knows_poses:
            like = " or ".join(f"--arm {name}" for name in arms_like([c.name for c in reader.embodiment.state]))
            say(
                "neither a pose nor kinematics says where the gripper is: anchors are not labelled"
                + (f". Its joints are named as a shipped arm's: {like} (docs/your-recordings.md)" if like else "")
            )
        require_learnable(reader, params.validation)
        if not declaration.is_file():
            _declare(reader.declared, declaration, dataset.arm)
        beside = dataset.declarations / f"{reader.embodiment.id}.yaml"
        if beside.is_file() and load_embodiment(str(beside)).digest != reader.declared.digest:
            say(f"{beside} declares this robot otherwise than {declaration}: all other commands judge by it, mend it")
        before = set(store.batches())
        done = ingest(store, reader)
        _announce(store, set(store.batches()) - before, reader.embodiment, params, announce)
        declared = declared_embodiments(store, params, dataset.declarations)
        report = validate(
            workspace.store,
            params.validation,
            declared={**declared, reader.declared.id: reader.declared},
            validation_fraction=params.prepare.validation_fraction,
            cache=workspace.validated,
        )
        judged, where = _judged(store, done, report, params.validation), filter_for(params, reader.embodiment.id)
        version: DataVersion | None = None
        labelled: float | None = None
        reason = "no episode of this dataset may be learnt from"
        if judged.accepted:
            reason = nothing_to_learn(workspace.store, report, reader.declared, params.prepare, where)
        if not reason:
            version = version_store(workspace, params, reader.declared, where).record
            manifest = read_manifest(workspace.data / version.version)
            labelled, said = manifest.task_share, untaught(manifest)
            if said:
                say(f"{said}. model.gate=auto leaves the anchors out")
        else:
            say(f"{reason}: the episodes are in the store, and no data version was made")
    return Ingestion(
        accepted=judged.accepted,
        quarantined=judged.quarantined,
        findings=judged.findings,
        new=done.new,
        superseded=done.superseded,
        data_version=None if version is None else version.version,
        name=None if version is None else version.name,
        folder=None if version is None else str(workspace.home / version.folder),
        embodiment=reader.embodiment.id,
        declaration=str(declaration),
        batches=done.batches,
        labelled=labelled,
    )


def _robot(source: SourceDataset, dataset: Dataset, store: EpisodeStore) -> str:
    """The id of the dataset's robot, where no embodiment file is named."""
    parts = parts_of(source, dataset.mapping)
    robot, before = robot_of(source, parts), robot_id(source)
    if robot != before:
        # Stores from before robots without a name were told apart have the recording under the plain name.
        recording = first_recording(source, parts)
        if recording is not None and Recordings(store).has(before, *recording):
            return before
    if unnamed(source):
        called = f"calls its robot {source.robot!r}, which names none" if source.robot else "does not name its robot"
        source.remarks.append(
            (
                "robot",
                f"info.json {called}: it was taken for a robot of its own, {robot}; to make it one with other "
                "datasets' robot, give all of them one robot_type, or one file with --embodiment",
            )
        )
    return robot


def open_reader(source: SourceDataset, dataset: Dataset, store: EpisodeStore) -> tuple[SourceReader, Path]:
    """The dataset with all that is declared of it, and the file of its embodiment, which there may not be yet."""
    robot = ""
    if dataset.embodiment:
        if dataset.arm:
            raise BadInput("--arm derives a declaration from the dataset, and --embodiment names one: give either")
        if dataset.embodiment in shipped_arms():
            raise BadInput(
                f"--embodiment {dataset.embodiment} has no cameras: --arm {dataset.embodiment} takes the dataset's own"
            )
        path = embodiment_file(dataset.embodiment)
    else:
        robot = _robot(source, dataset, store)
        path = dataset.declarations / f"{robot}.yaml"
    folder = path.parent
    if path.is_file():
        embodiment = load_embodiment(str(path))
        if dataset.arm and not is_arm(embodiment, dataset.arm):
            raise BadInput(
                f"{path} declares this robot already, and not as --arm {dataset.arm}: leave --arm out if the file is "
                "right, or move it away to have it written anew"
            )
        features = map_features(source, dataset.mapping, embodiment)
    else:
        features = map_features(source, dataset.mapping, None)
        embodiment = derived_embodiment(source, features, robot)
        if dataset.arm:
            embodiment = as_arm(embodiment, dataset.arm)
            folder = chain_folder(dataset.arm)
    source.remarks += [("gripper", said) for said in grippers_beside(source, features.parts, features.extra)]
    calibration = None
    if dataset.calibration is not None:
        calibration = load_calibration(dataset.calibration, list(embodiment.cameras), embodiment.end_effectors)
    kinematics = None
    if embodiment.kinematics is not None:
        # Kinematics draws nothing; but who draws later in this process needs the choice made before MuJoCo is imported.
        with suppress(BadInput):
            require_gl()
        kinematics = ForwardKinematics(embodiment, folder)
    try:
        reader = SourceReader(
            source,
            features,
            embodiment,
            calibration=calibration,
            kinematics=kinematics,
            origin=dataset.origin,
            resample=dataset.resample,
        )
        require_fit(reader)
    except BadInput as error:
        raise BadInput(f"{error} (embodiment file: {path})" if path.is_file() else str(error)) from None
    return reader, path


def _require_one_meaning(store: EpisodeStore, embodiment: Embodiment, *, resample: bool) -> None:
    """Stops before anything comes in that could not be prepared together with what is there.

    Raises:
        BadInput: The numbers of a batch of this embodiment mean something else.
    """
    replaced = store.replaced()
    for batch in store.batches():
        try:
            reader = DatasetReader(store.folder(batch))
        except BadInput:
            continue  # validation names it
        counts = any(record.extra.digest not in replaced for record in reader.records)
        if reader.embodiment.id == embodiment.id and counts:
            require_meant_alike(batch, reader.embodiment, embodiment, resample=resample)


def _announce(
    store: EpisodeStore, batches: set[str], embodiment: Embodiment, params: Params, announce: Announce
) -> None:
    """Tells of new batches, where the target is of their embodiment."""
    try:
        wanted = load_embodiment(params.chosen.embodiment).id
    except BadInput:
        return  # the target's file is not at hand: an ingestion does without it
    for batch in sorted(batches) if wanted == embodiment.id else ():
        announce(DataIngested(batch, len(DatasetReader(store.folder(batch))), params.target))


def _declare(embodiment: Embodiment, path: Path, arm: str) -> None:
    if arm:
        copy_chain(arm, path)
    text = yaml_text(embodiment.model_dump(mode="json", exclude_none=True))
    write_text(
        path,
        "# What the dataset shows of its robot. Complete it: units, limits (low, high), action_frame, kinematics,\n"
        "# gripper (docs/data.md says what each is). Until then what needs them is neither checked nor labelled.\n"
        + text,
    )
    say(f"{path} written: it declares what the dataset shows of its robot, complete it")


def _judged(store: EpisodeStore, done: Ingested, report: ValidationReport, rules: ValidateParams) -> Judged:
    """What the report says of these episodes alone."""
    places = store.known()
    mine = {places[digest] for digest in done.episodes if digest in places}
    kept = set(done.kept)
    aside = report.aside()
    bad = {place for place in mine if place in aside or (place[0], None) in aside}
    findings = [
        finding
        for finding in report.findings
        if (finding.batch, finding.episode) in mine
        or finding.batch in kept
        or (finding.episode is None and finding.batch in done.batches)
    ]
    # What no batch holds: of a dataset that came before, or of which nothing could be read.
    findings += _unsaid(done, [finding.value for finding in findings], rules)
    return Judged(accepted=len(mine - bad), quarantined=len(bad) + len(kept), findings=findings)


def _unsaid(done: Ingested, said: list[str], rules: ValidateParams) -> Iterator[Finding]:
    for remark in done.remarks:
        severity = severity_of(rules, remark.rule)
        if severity is not None and remark.value not in said:
            value = remark.value if remark.episode is None else f"episode {remark.episode}: {remark.value}"
            yield Finding(
                rule=remark.rule,
                severity=severity,
                batch="",
                episode=None,
                frame=None,
                value=value,
                remedy=remedy_of(remark.rule),
            )
