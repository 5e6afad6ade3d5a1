"""Where the facts of a retraining come from: evidence, storage, data history, registry, checkout."""

from __future__ import annotations

import json
from pathlib import Path

from posa_vla.dataset.shards.manifest import read_manifest, untaught
from posa_vla.dataset.versions.diff import VersionsDiff, diff_versions
from posa_vla.dataset.versions.history import list_versions
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, PosaError
from posa_vla.evaluation.offline_films import kept_films
from posa_vla.evidence.offline import OfflineEvidence, offline_path, read_offline
from posa_vla.evidence.record import EpisodeRow, Evidence, evidence_path, read_evidence
from posa_vla.evidence.summary import Summary
from posa_vla.json_reader import decode_json
from posa_vla.model.anchor_choice import choose_anchors
from posa_vla.model.config import read_config
from posa_vla.params import Params
from posa_vla.params_file import flat
from posa_vla.pipeline.records import Evaluated, Trained
from posa_vla.pipeline.report.commits import commits_between
from posa_vla.pipeline.report.facts import Changes, DataChanges, EpisodeShown, Measured, Origin, RetrainingFacts
from posa_vla.pipeline.report.preset import preset_of
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.registry import RegisteredVersion, registered_version
from posa_vla.workspace import Workspace

# Videos and overlays that the page holds, and the bytes of them all; what is left out stays in the MLflow run.
_SHOWN, _MEDIA_BYTES = 3, 24_000_000


def measured(evidence: Evidence) -> Measured:
    """Success, with its interval, and means of an evidence record."""
    figures = Summary.of(evidence)
    return Measured(
        solved=sum(row.success for row in evidence.rows if row.return_code == "ok"),
        valid=figures.episodes,
        planned=evidence.planned,
        rate=figures.success_rate,
        low=figures.ci_low,
        high=figures.ci_high,
        mean_steps=figures.mean_steps,
        mean_path_length=figures.mean_path_length,
    )


def _compared(candidate: Evidence, champion: Evidence | None) -> tuple[int, int] | None:
    if champion is None:
        return None
    theirs = {row.scene_seed: row.success for row in champion.rows if row.return_code == "ok"}
    ours = [row for row in candidate.rows if row.return_code == "ok" and row.scene_seed in theirs]
    pairs = [(row.success, theirs[row.scene_seed]) for row in ours]
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def _episodes(
    workspace: Workspace, reports: str, candidate: Evidence, champion: Evidence | None
) -> tuple[list[EpisodeShown], int]:
    """The worst of the recorded rollouts, and how many were recorded.

    Worst is what has no valid outcome, then what failed where the champion did not, what failed, and what took longest.
    """
    storage = workspace.storage
    files = {name: storage.list(f"{reports}/{name}/") for name in ("videos", "overlays")}
    theirs = {row.scene_seed: row.success for row in champion.rows} if champion is not None else {}

    def rank(row: EpisodeRow) -> tuple[bool, bool, bool, int]:
        return row.return_code == "ok", row.success, not theirs.get(row.scene_seed, False), -row.steps

    def file(name: str, row: EpisodeRow) -> str | None:
        return next((path for path in files[name] if Path(path).stem.endswith(f"-{row.scene_seed}")), None)

    recorded = [row for row in candidate.rows if file("videos", row) or file("overlays", row)]
    room, shown = _MEDIA_BYTES, []
    for row in sorted(recorded, key=rank)[:_SHOWN]:
        media: dict[str, bytes | None] = {}
        for name in files:
            path = file(name, row)
            data = None if path is None else storage.get(path)
            media[name] = data if data is not None and len(data) <= room else None
            room -= len(media[name] or b"")
        shown.append(
            EpisodeShown(
                row=row,
                champion_success=theirs.get(row.scene_seed),
                video=media["videos"],
                overlay=media["overlays"],
            )
        )
    return shown, len(recorded)


def _data_changes(found: VersionsDiff) -> DataChanges:
    came: dict[str, int] = {}
    for episode in found.came:
        came[episode.batch] = came.get(episode.batch, 0) + 1
    return DataChanges(
        before=found.before,
        after=found.after,
        came=came,
        went=len(found.went),
        quarantined=len(found.quarantined),
        released=len(found.released),
        shifts={name: max(moved.mean_shift, key=abs) for name, moved in found.moved.items()},
        params={name: (json.dumps(old), json.dumps(new)) for name, (old, new) in found.params.items()},
    )


def _changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    names = sorted(before.keys() | after.keys())
    return {n: (before.get(n, ""), after.get(n, "")) for n in names if before.get(n) != after.get(n)}


def _changes(
    workspace: Workspace, params: Params, candidate: Origin, champion: Origin, champion_params: bytes | None
) -> Changes:
    unknown: dict[str, str] = {}
    data, parameters = None, None
    if candidate.data_version != champion.data_version:
        try:
            data = _data_changes(diff_versions(workspace, champion.data_version, candidate.data_version))
        except (PosaError, LookupError, ValueError) as error:  # or a version that other code made lacks something
            unknown["data"] = str(error)
    if champion_params is None:
        unknown["parameters"] = f"the MLflow run of model version {champion.model_version} holds no parameters"
    else:
        try:
            parameters = _changed(flat(decode_json(champion_params, "the file")), flat(params.model_dump(mode="json")))
        except (BadInput, AttributeError) as error:  # no JSON, or no object
            unknown["parameters"] = f"the parameters of model version {champion.model_version} cannot be read: {error}"
    commits = commits_between(champion.commit, candidate.commit)
    if commits is None:
        unknown["commits"] = "this installation has no checkout that holds both commits"
    return Changes(data=data, parameters=parameters, commits=commits, unknown=unknown)


def _nothing_known(reason: str) -> Changes:
    return Changes(data=None, parameters=None, commits=None, unknown={"champion": reason})


def _champion(registered: RegisteredVersion, version: str, data_name: str) -> Origin:
    return Origin(
        model_version=version,
        run_id=registered.run_id,
        bundle=registered.bundle,
        data_version=registered.data_version,
        data_name=data_name,
        commit=registered.commit,
        dirty=registered.dirty,
    )


def gather_facts(
    workspace: Workspace, params: Params, decision: Decision, evaluated: Evaluated, origin: Origin
) -> RetrainingFacts:
    """Gathers the facts of a retraining whose candidate is registered.

    Args:
        workspace: Workspace of the retraining.
        params: Parameters of the retraining.
        decision: The gate's decision.
        evaluated: Candidate and champion on the same scenes.
        origin: Names and digests of what the candidate was made of.

    Raises:
        PosaError: MLflow or the storage is away.
    """
    embodiment = load_embodiment(params.chosen.embodiment)
    candidate, champion = (
        None if digest is None else read_evidence(evidence_path(workspace, digest))
        for digest in (evaluated.evidence, evaluated.champion_evidence)
    )
    replayed = None
    if evaluated.offline is not None:
        replayed = read_offline(offline_path(workspace, evaluated.offline.evidence))
    now = promotion_log(workspace, params.target).champion()
    rival, changes = None, None
    if now is not None and now.bundle == evaluated.champion:
        version = now.model_version
        try:
            registered = registered_version(workspace.mlflow_uri, params.target, version)
        except BadInput as error:  # somebody deleted it: the retraining is none the worse for it
            changes = _nothing_known(str(error))
        else:
            rival = _champion(registered, version, _data_name(workspace, registered.data_version))
            changes = _changes(workspace, params, origin, rival, registered.params)
    elif champion is not None:
        changes = _nothing_known("the promotion log does not name its model version")
    episodes, recorded = list[EpisodeShown](), 0
    if candidate is not None and evaluated.reports is not None:
        episodes, recorded = _episodes(workspace, evaluated.reports, candidate, champion)
    return RetrainingFacts(
        target=params.target,
        embodiment=embodiment.id,
        simulated=embodiment.simulated,
        task=params.chosen.task,
        preset=preset_of(params),
        decision=decision,
        candidate=origin,
        success=None if candidate is None else measured(candidate),
        champion=rival,
        champion_success=None if champion is None else measured(champion),
        itself=now is not None and now.bundle == origin.bundle,
        compared=None if candidate is None else _compared(candidate, champion),
        episodes=episodes,
        recorded=recorded,
        changes=changes,
        hardware=next((made.hardware for made in (candidate, replayed) if made is not None), "unknown"),
        anchors=_anchors(workspace, params, origin, evaluated.candidate.source),
        anchored=_anchored(workspace.bundles / origin.bundle),
        offline=replayed,
        films=_films(workspace, evaluated, replayed),
    )


def _films(workspace: Workspace, evaluated: Evaluated, replayed: OfflineEvidence | None) -> dict[int, bytes]:
    """The films that the page holds: as many as there is room for."""
    if evaluated.offline is None or replayed is None:
        return {}
    room, shown = _MEDIA_BYTES, dict[int, bytes]()
    for number, film in kept_films(workspace.storage, evaluated.offline.reports, replayed).items():
        room -= len(film)
        if room >= 0:
            shown[number] = film
    return shown


def _anchors(workspace: Workspace, params: Params, origin: Origin, source: Trained | DataVersion) -> str:
    """What was settled of the anchors, and what share of the data teaches them; empty where these are not at hand."""
    try:
        manifest = read_manifest(workspace.data / origin.data_version)
    except BadInput:
        return ""
    share = manifest.task_share
    taught = untaught(manifest) or ("" if share is None else f"{share:.0%} of the frames have a task label")
    if params.model.gate == "auto" and isinstance(source, Trained) and source.start is not None:
        return f"{taught}{'. ' if taught else ''}model.gate=auto is that of the policy that the training started from"
    return choose_anchors(params, manifest).words or taught


def _anchored(bundle: Path) -> bool:
    """Whether a bundle's policy has anchors; one that says nothing of them may have some."""
    return not (bundle / "config.json").is_file() or read_config(bundle).anchored


def _data_name(workspace: Workspace, version: str) -> str:
    """`data-v3` for a version's digest; empty where this workspace's history does not know it, or cannot be read."""
    try:
        return next((v.name for v in reversed(list_versions(workspace)) if v.record.version == version), "")
    except PosaError:  # the comparison of the data meets it too, and says it on the page
        return ""
