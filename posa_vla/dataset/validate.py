"""Looks at every episode of a store before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posa_vla.console import progress
from posa_vla.dataset.labels import gripper_events
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot_v3 import DatasetReader, EpisodeRecord
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.geometry import project

Severity = Literal["severe", "warning"]
# Beyond a limit by this share of the channel's range: sensor noise and overshoot are less.
LIMIT_TOLERANCE = 0.02
# Beyond a limit by this share of the range: another unit or another channel.
LIMIT_NONSENSE = 0.5

# What can be found, how bad it is, and what to do about it. A severe finding keeps the episode out of training.
RULES: dict[str, tuple[Severity, str]] = {
    "batch-readable": ("severe", "record the batch again and delete its folder"),
    "episode-readable": ("severe", "record the episode again, or delete the batch and append the others anew"),
    "content": ("severe", "the stored bytes are not the ones that were appended: restore the batch from its remote"),
    "instruction": ("severe", "say in words what the robot was asked to do"),
    "timestamps": ("severe", "frames must come at the declared rate, numbered from 0: resample the recording"),
    "limits-nonsense": ("severe", "compare the unit and order of the channel with the embodiment file"),
    "limits": ("warning", "widen the limit in the embodiment file if the robot really goes there"),
    "success": ("warning", "kept, but not imitated: only successful episodes are prepared"),
    "gripper-event": ("warning", "kept; without an opening or closing there is no task anchor to learn from"),
    "target-in-view": ("warning", "kept; move a camera so that it sees where the gripper opens and closes"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        rule: Key of `RULES`.
        severity: `severe` findings quarantine the episode.
        batch: Digest of the batch.
        episode: Number in the batch, or None for the whole batch.
        frame: First frame concerned, or None.
        value: What was found, in words.
        remedy: What to do.
    """

    rule: str
    severity: Severity
    batch: str
    episode: int | None
    frame: int | None
    value: str
    remedy: str


# (rule, frame, value): a finding before it knows its place.
Remark = tuple[str, int | None, str]


def _limits(name: str, values: NDArray[np.float32], channels: list[Channel]) -> Iterator[Remark]:
    low, high = (np.array(bound) for bound in zip(*(channel.limits for channel in channels), strict=True))
    with np.errstate(invalid="ignore"):  # no limits: minus infinity over infinity
        excess = np.nan_to_num(np.maximum(low - values, values - high) / (high - low), nan=0.0)
    for column in np.flatnonzero(excess.max(axis=0) > LIMIT_TOLERANCE):
        frame = int(excess[:, column].argmax())
        channel = channels[column]
        rule = "limits-nonsense" if excess[frame, column] > LIMIT_NONSENSE else "limits"
        yield (
            rule,
            frame,
            f"{name} {channel.name} is {values[frame, column]:.4g} {channel.unit}, "
            f"limits {low[column]:g} to {high[column]:g}",
        )


def _target_in_view(episode: Episode, events: NDArray[np.int64]) -> Iterator[Remark]:
    calibrated = [c for c in episode.cameras.values() if c.intrinsics is not None and c.pose is not None]
    if episode.end_effector is None or not calibrated or not len(events):
        return
    seen = np.zeros(len(events), np.bool_)
    for camera in calibrated:
        assert camera.intrinsics is not None  # for the type checker: `calibrated` says so
        assert camera.pose is not None
        height, width = camera.images.shape[1:3]
        points = episode.end_effector[events, :3]
        seen |= project(points, camera.intrinsics[events], camera.pose[events], width, height).visible
    for event in events[~seen]:
        yield "target-in-view", int(event), "no camera sees the end-effector where the gripper opens or closes"


def _timestamps(table: pa.Table, fps: float) -> Iterator[Remark]:
    numbers, times = table["frame_index"].to_numpy(), table["timestamp"].to_numpy()
    expected = np.arange(len(numbers))
    wrong = (numbers != expected) | ~(np.abs(times - expected / fps) < 0.5 / fps)
    if wrong.any():
        frame = int(wrong.argmax())
        yield (
            "timestamps",
            frame,
            f"frame {numbers[frame]} at {times[frame]:.3f} s, expected {frame} at {frame / fps:.3f} s",
        )


def _episode_remarks(reader: DatasetReader, record: EpisodeRecord, embodiment: Embodiment) -> Iterator[Remark]:
    try:
        table = reader.table(record)
        episode = reader.episode(record, table)
    except BadInput as error:
        yield "episode-readable", None, str(error)
        return
    digest = episode_digest(episode)
    if digest != record.extra.digest:
        yield "content", None, f"digest is {digest[:12]}, appended was {record.extra.digest[:12]}"
    yield from _timestamps(table, reader.fps)
    if not episode.instruction.strip():
        yield "instruction", None, "the instruction is empty"
    if not episode.success:
        yield "success", None, "the task was not done"
    yield from _limits("state", episode.state, embodiment.state)
    yield from _limits("action", episode.action, embodiment.action)
    events = gripper_events(episode, embodiment)
    if not len(events):
        yield "gripper-event", None, "the gripper neither opens nor closes"
    yield from _target_in_view(episode, events)


def _finding(batch: str, episode: int | None, remark: Remark) -> Finding:
    rule, frame, value = remark
    severity, remedy = RULES[rule]
    return Finding(rule, severity, batch, episode, frame, value, remedy)


def validate(store_folder: Path) -> dict[str, Any]:
    """Checks every episode of a store; nothing is changed.

    Args:
        store_folder: An episode store.

    Returns:
        The report: `store_digest`, counts, `findings` (see `Finding`), and `quarantined`: batch and number of the
        episodes with a severe finding; a number of None stands for the whole batch.

    Raises:
        BadInput: The store is empty.
    """
    store = EpisodeStore(store_folder)
    if not store.batches():
        raise BadInput(f"{store_folder} holds no episodes: collect some with `posa data collect`")
    findings: list[Finding] = []
    readers: dict[str, DatasetReader] = {}
    for batch in store.batches():
        try:
            readers[batch] = DatasetReader(store.folder(batch))
        except BadInput as error:
            findings.append(_finding(batch, None, ("batch-readable", None, str(error))))
    episodes = sum(len(reader) for reader in readers.values())
    with progress("validate", episodes, unit="episode") as advance:
        for batch, reader in readers.items():
            for record in reader.records:
                remarks = _episode_remarks(reader, record, reader.embodiment)
                findings.extend(_finding(batch, record.number, remark) for remark in remarks)
                advance(1)
    severe = {(f.batch, f.episode): None for f in findings if f.severity == "severe"}
    return {
        "schema_version": 1,
        "store_digest": store.digest(),
        "batches": len(store.batches()),
        "episodes": episodes,
        "frames": sum(record.length for reader in readers.values() for record in reader.records),
        "rules": dict(sorted(Counter(finding.rule for finding in findings).items())),
        "quarantined": [{"batch": batch, "episode": episode} for batch, episode in severe],
        "findings": [asdict(finding) for finding in findings],
    }
