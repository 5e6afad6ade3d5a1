"""Looks at every episode of a store before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posa_vla.console import Advance, progress
from posa_vla.dataset.code import data_code
from posa_vla.dataset.episode_rules import episode_remarks, undeclared
from posa_vla.dataset.findings import Finding, Remark, remedy_of, severity_of
from posa_vla.dataset.image_rules import glance, image_remarks
from posa_vla.dataset.prepare import meant_otherwise
from posa_vla.dataset.store_rules import Trace, store_remarks, trace_of
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.lerobot_v3 import DatasetReader, EpisodeRecord
from posa_vla.episodes.quarantine import Release
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, sha256_json, write_json
from posa_vla.params import ValidateParams

SCHEMA_VERSION = 2


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
        glances = {role: glance(camera.images) for role, camera in episode.cameras.items()}
    except PosaError as error:
        return [("episode-readable", None, str(error))], None, []
    remarks: list[Remark] = []
    if digest != record.extra.digest:
        remarks.append(("content", None, f"digest is {digest[:12]}, appended was {record.extra.digest[:12]}"))
    remarks += _numbered(table)
    remarks += episode_remarks(episode, embodiment, rules)
    remarks += image_remarks(episode, embodiment, rules, glances)
    trace = trace_of(batch, record.number, record.extra.digest, episode)
    return remarks, trace, undeclared(episode, embodiment)


def _finding(rules: ValidateParams, batch: str, episode: int | None, digest: str, remark: Remark) -> Iterator[Finding]:
    rule, frame, value = remark
    severity = severity_of(rules, rule)
    if severity is not None:
        yield Finding(rule, severity, batch, episode, digest, frame, value, remedy_of(rule))


def _batch(
    store: EpisodeStore,
    batch: str,
    rules: ValidateParams,
    declared: Embodiment | None,
    advance: Advance,
    cache: Path | None,
) -> dict[str, Any]:
    """Findings and traces of one batch; taken from the cache where the very batch has been looked at this way before.

    Batches never change: their bytes are checked against the digests when they are first looked at, and by
    `posa data verify` whenever somebody wants to know.
    """
    known = None if cache is None else cache / f"{batch}.json"
    if known is not None and known.is_file():
        seen: dict[str, Any] = read_json(known)
        advance(len(seen["traces"]) + seen["unreadable"])
        return seen
    try:
        reader = DatasetReader(store.folder(batch))
    except BadInput as error:
        found = _finding(rules, batch, None, "", ("batch-readable", None, str(error)))
        return {"findings": [asdict(f) for f in found], "traces": [], "unreadable": 0, "frames": 0}
    findings: list[Finding] = []
    traces: list[Trace] = []
    without: Counter[str] = Counter()
    embodiment = reader.embodiment
    if declared is not None and declared.id == embodiment.id and not meant_otherwise(embodiment, declared):
        embodiment = declared
    for record in reader.records:
        remarks, trace, missing = _examine(reader, embodiment, record, batch, rules)
        for remark in remarks:
            findings += _finding(rules, batch, record.number, record.extra.digest, remark)
        traces += [trace] if trace is not None else []
        without.update(missing)
        advance(1)
    for text, count in sorted(without.items()):
        findings += _finding(rules, batch, None, "", ("undeclared", None, f"{text} ({count} episodes)"))
    seen = {
        "findings": [asdict(finding) for finding in findings],
        "traces": [asdict(trace) for trace in traces],
        "unreadable": len(reader) - len(traces),
        "frames": sum(record.length for record in reader.records),
    }
    if known is not None and not any(f.rule == "content" for f in findings) and not seen["unreadable"]:
        write_json(known, seen)
    return seen


def _kept(store: EpisodeStore, rules: ValidateParams) -> Iterator[Finding]:
    """One finding an episode that could not be read when it came."""
    for key, kept in store.quarantine.kept().items():
        value = f"episode {kept.episode} of {kept.dataset}: {kept.value}"
        yield from _finding(rules, key, kept.episode, key, (kept.rule, None, value))


def _released(findings: list[Finding], releases: dict[str, Release]) -> list[Finding]:
    """The findings, the released ones marked as such."""
    marked = []
    for finding in findings:
        release = releases.get(finding.digest)
        reason = release.reason(finding.rule) if release is not None and finding.severity == "severe" else ""
        marked.append(replace(finding, released=reason) if reason else finding)
    return marked


def validate(
    store_folder: Path,
    rules: ValidateParams | None = None,
    *,
    embodiment: Embodiment | None = None,
    validation_fraction: float = 0.0,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Checks every episode of a store; nothing of it is changed.

    Args:
        store_folder: An episode store.
        rules: Severities and thresholds; the defaults if None.
        embodiment: Its declaration as it is now, for batches of it whose numbers mean the same; limits may have been
            declared since they were recorded.
        validation_fraction: Share of episodes that is held out, to look for the same scene on both sides.
        cache: Folder of what was found of batches before; none if None.

    Returns:
        The report: `store_digest`, counts, `findings` (see `Finding`), and `quarantined`: batch and number of the
        episodes with a severe finding that nobody released; a number of None stands for the whole batch.

    Raises:
        BadInput: The store is empty.
    """
    rules = rules or ValidateParams()
    store = EpisodeStore(store_folder)
    kept = list(_kept(store, rules))
    if not store.batches() and not kept:
        raise BadInput(f"{store_folder} holds no episodes: collect or ingest some (`posa data --help`)")
    findings: list[Finding] = []
    traces: list[Trace] = []
    episodes = frames = 0
    if cache is not None:
        rules_key = {"rules": rules.model_dump(mode="json"), "code": data_code()}
        cache = cache / sha256_json({**rules_key, "embodiment": embodiment.digest if embodiment else ""})
    total = len(store.known())
    with progress("validate", total, unit="episode") as advance:
        for batch in store.batches():
            seen = _batch(store, batch, rules, embodiment, advance, cache)
            findings += [Finding(**finding) for finding in seen["findings"]]
            traces += [Trace(**trace) for trace in seen["traces"]]
            episodes += len(seen["traces"]) + seen["unreadable"]
            frames += seen["frames"]
    for trace, rule, value in store_remarks(traces, rules, validation_fraction):
        findings += _finding(rules, trace.batch, trace.number, trace.digest, (rule, None, value))
    findings = _released(findings + kept, store.quarantine.releases())
    severe = {(f.batch, f.episode): None for f in findings if f.severity == "severe" and not f.released}
    aside = {finding.batch for finding in kept}
    return {
        "schema_version": SCHEMA_VERSION,
        "store_digest": store.digest(),
        "batches": len(store.batches()),
        "episodes": episodes,
        "frames": frames,
        "unreadable": len(kept),
        "rules": dict(sorted(Counter(finding.rule for finding in findings).items())),
        "quarantined": [{"batch": b, "episode": e, "kept_aside": b in aside} for b, e in severe],
        "findings": [asdict(finding) for finding in findings],
    }
