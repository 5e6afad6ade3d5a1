"""Looks at every episode of a store before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posa_vla.console import Advance, progress
from posa_vla.dataset.code import data_code
from posa_vla.dataset.validation.episode_rules import episode_remarks, undeclared
from posa_vla.dataset.validation.findings import Finding, Remark, remedy_of, severity_of
from posa_vla.dataset.validation.image_rules import glance, image_remarks
from posa_vla.dataset.validation.report import Quarantined, ValidationReport
from posa_vla.dataset.validation.store_rules import Trace, store_remarks, trace_of
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.lerobot.reader import DatasetReader, EpisodeRecord
from posa_vla.episodes.store.batch_remarks import read_remarks
from posa_vla.episodes.store.declared import judged_by
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.episodes.store.quarantine import Release
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, sha256_json, write_json
from posa_vla.validation_params import ValidateParams


def _numbered(table: pa.Table) -> Iterator[Remark]:
    numbers = table["frame_index"].to_numpy()
    wrong = numbers != np.arange(len(numbers))
    if wrong.any():
        frame = int(wrong.argmax())
        yield "timestamps", frame, f"row {frame} is numbered {numbers[frame]}"


def _examine(
    reader: DatasetReader, embodiment: Embodiment, record: EpisodeRecord, batch: str, rules: ValidateParams
) -> tuple[list[Remark], Trace | None, list[str]]:
    """What one episode shows, what comparing it needs, and what was never declared for it."""
    try:
        table = reader.table(record)
        episode = reader.episode(record, table)
        digest = episode_digest(episode)
    except PosaError as error:
        return [("episode-readable", None, str(error))], None, []
    trace = trace_of(batch, record.number, record.extra.digest, episode)
    try:
        glances = {role: glance(camera.images) for role, camera in episode.cameras.items()}
    except PosaError as error:
        # The bytes are the ones that came in: no copy of the batch has better pictures.
        came = digest == record.extra.digest
        return [("images" if came else "episode-readable", None, str(error))], trace if came else None, []
    remarks: list[Remark] = []
    if digest != record.extra.digest:
        remarks.append(("content", None, f"digest is {digest[:12]}, appended was {record.extra.digest[:12]}"))
    remarks += _numbered(table)
    remarks += episode_remarks(episode, embodiment, rules)
    remarks += image_remarks(episode, embodiment, rules, glances)
    return remarks, trace, undeclared(episode, embodiment)


def _finding(rules: ValidateParams, batch: str, episode: int | None, digest: str, remark: Remark) -> Iterator[Finding]:
    rule, frame, value = remark
    severity = severity_of(rules, rule)
    if severity is not None:
        yield Finding(
            rule=rule,
            severity=severity,
            batch=batch,
            episode=episode,
            digest=digest,
            frame=frame,
            value=value,
            remedy=remedy_of(rule),
        )


def _batch(
    store: EpisodeStore,
    batch: str,
    rules: ValidateParams,
    declared: Mapping[str, Embodiment],
    advance: Advance,
    cache: Path | None,
) -> dict[str, Any]:
    """Findings and traces of one batch; taken from the cache where the very batch has been looked at this way before.

    Batches never change: their bytes are checked against the digests when they are first looked at, and by
    `posa data verify` whenever somebody wants to know.
    """
    try:
        reader = DatasetReader(store.folder(batch))
        noted = read_remarks(store.folder(batch))
    except BadInput as error:
        found = _finding(rules, batch, None, "", ("batch-readable", None, str(error)))
        return {"findings": [finding.model_dump() for finding in found], "traces": [], "missing": [], "lengths": {}}
    embodiment = judged_by(reader.embodiment, declared)
    known = None
    if cache is not None:
        key = {"rules": rules.model_dump(mode="json"), "code": data_code(), "embodiment": embodiment.digest}
        known = cache / sha256_json(key) / f"{batch}.json"
    if known is not None and known.is_file():
        seen: dict[str, Any] = read_json(known)
        advance(len(reader))
        return seen
    findings: list[Finding] = []
    traces: list[Trace] = []
    missing: list[tuple[str, str]] = []
    for note in noted:
        if note.episode is None:
            findings += _finding(rules, batch, None, "", (note.rule, note.frame, note.value))
    for record in reader.records:
        remarks, trace, without = _examine(reader, embodiment, record, batch, rules)
        remarks += [(note.rule, note.frame, note.value) for note in noted if note.episode == record.number]
        for remark in remarks:
            findings += _finding(rules, batch, record.number, record.extra.digest, remark)
        traces += [trace] if trace is not None else []
        missing += [(record.extra.digest, text) for text in without]
        advance(1)
    seen = {
        "findings": [finding.model_dump() for finding in findings],
        "traces": [asdict(trace) for trace in traces],
        "missing": missing,
        "lengths": {record.extra.digest: record.length for record in reader.records},
    }
    if known is not None and not any(f.rule == "content" for f in findings) and len(traces) == len(reader):
        write_json(known, seen)
    return seen


def _undeclared(rules: ValidateParams, batch: str, missing: list[list[str]], gone: Container[str]) -> Iterator[Finding]:
    """What was never declared for the episodes of a batch: once for all of them."""
    counts = Counter(text for digest, text in missing if digest not in gone)
    for text, count in sorted(counts.items()):
        yield from _finding(rules, batch, None, "", ("undeclared", None, f"{text} ({count} episodes)"))


def _kept(store: EpisodeStore, rules: ValidateParams, settled: Container[str]) -> Iterator[Finding]:
    """One finding an episode that could not be read when it came, and has not come since."""
    for key, kept in store.quarantine.kept().items():
        if key in settled:
            continue
        value = f"episode {kept.episode} of {kept.dataset}: {kept.value}"
        yield from _finding(rules, key, kept.episode, key, (kept.rule, None, value))


def _released(findings: list[Finding], releases: dict[str, Release]) -> list[Finding]:
    """The findings, the released ones marked as such."""
    marked = []
    for finding in findings:
        release = releases.get(finding.digest)
        reason = release.reason(finding.rule) if release is not None and finding.severity == "severe" else ""
        marked.append(finding.model_copy(update={"released": reason}) if reason else finding)
    return marked


def validate(
    store_folder: Path,
    rules: ValidateParams | None = None,
    *,
    declared: Mapping[str, Embodiment] | None = None,
    validation_fraction: float = 0.0,
    cache: Path | None = None,
) -> ValidationReport:
    """Checks every episode of a store; nothing of it is changed.

    Args:
        store_folder: An episode store.
        rules: Severities and thresholds; the defaults if None.
        declared: Id -> the embodiment as it is declared now, for batches whose numbers mean the same by it; limits may
            have been declared since they were recorded.
        validation_fraction: Share of episodes that is held out, to look for the same scene on both sides.
        cache: Folder of what was found of batches before; none if None.

    Returns:
        The report.

    Raises:
        BadInput: The store is empty.
    """
    rules = rules or ValidateParams()
    store = EpisodeStore(store_folder)
    replaced = store.replaced()
    kept = list(_kept(store, rules, replaced))
    if not store.batches() and not store.quarantine.kept():
        raise BadInput(f"{store_folder} holds no episodes: collect or ingest some (`posa data --help`)")
    findings: list[Finding] = []
    traces: list[Trace] = []
    lengths: dict[tuple[str, str], int] = {}
    places = store.known()
    with progress("validate", len(places), unit="episode") as advance:
        for batch in store.batches():
            seen = _batch(store, batch, rules, declared or {}, advance, cache)
            found = (Finding(**finding) for finding in seen["findings"])
            findings += [finding for finding in found if finding.digest not in replaced]
            findings += _undeclared(rules, batch, seen["missing"], replaced)
            traces += [Trace(**trace) for trace in seen["traces"] if trace["digest"] not in replaced]
            lengths |= {(batch, d): length for d, length in seen["lengths"].items() if d not in replaced}
    superseded = {digest: places[digest] for digest in replaced if digest in places}
    for digest, (batch, number) in superseded.items():
        findings += _finding(rules, batch, number, digest, ("superseded", None, replaced[digest].reason))
    for trace, rule, value in store_remarks(traces, rules, validation_fraction):
        findings += _finding(rules, trace.batch, trace.number, trace.digest, (rule, None, value))
    findings = _released(findings + kept, store.quarantine.releases())
    severe = {(f.batch, f.episode): None for f in findings if f.severity == "severe" and not f.released}
    aside = {finding.batch for finding in kept}
    return ValidationReport(
        store_digest=store.digest(),
        batches=len(store.batches()),
        episodes=len(lengths),
        frames=sum(lengths.values()),
        superseded=len(superseded),
        unreadable=len(kept),
        rules=dict(sorted(Counter(finding.rule for finding in findings).items())),
        quarantined=[Quarantined(batch=b, episode=e, kept_aside=b in aside) for b, e in severe],
        findings=findings,
    )
