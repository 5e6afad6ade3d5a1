"""A policy along held-out episodes: how far its chunks are from what was done, against two baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posa_vla.console import progress, say
from posa_vla.dataset.shards.manifest import PreparedManifest, read_manifest
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.evaluation.held_out import PackedEpisodes
from posa_vla.evaluation.offline_baselines import HoldPose, NearestDemonstration, scales
from posa_vla.evaluation.offline_events import GripperTimes, commanded_grippers
from posa_vla.evaluation.offline_rotations import in_numbers_of
from posa_vla.evaluation.rows import hardware, versions
from posa_vla.evidence.offline import AnchorError, ChannelError, OfflineEpisode, OfflineEvidence
from posa_vla.policy.execution import Execution
from posa_vla.policy.policy import Policy
from posa_vla.seeds import look_seed

# Held-out episodes that are evaluated at most, and looks that the policy is asked for at once.
MOST_EPISODES = 50
_AT_ONCE = 16
# Without declared limits an action may go as far beyond what was recorded as that is wide.
_BEYOND = 1.0


@dataclass
class Replay:
    """What a policy asked for along one episode.

    Attributes:
        episode: The episode's row.
        looks: Frames at which it was asked.
        asked: float32 (T, A), the actions of each chunk up to the next look.
        recorded: float32 (T, A).
        attention: Role -> float32 (looks, K, h, w); empty where there are no labels.
    """

    episode: OfflineEpisode
    looks: NDArray[np.int64]
    asked: NDArray[np.float32]
    recorded: NDArray[np.float32]
    attention: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class OfflineResult:
    """The record, and the episodes behind it, worst first."""

    evidence: OfflineEvidence
    replays: list[Replay]


def allowed(embodiment: Embodiment, demonstrated: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[str]]:
    """Limits of the actions, float64 (2, A), and the channels for which none are declared."""
    low, high = (values.astype(np.float64) for values in embodiment.action_limits())
    least, most = demonstrated.min(axis=0).astype(np.float64), demonstrated.max(axis=0).astype(np.float64)
    room = _BEYOND * (most - least)
    without = [channel.name for channel in embodiment.action if channel.low is None]
    limits = np.stack([np.where(np.isinf(low), least - room, low), np.where(np.isinf(high), most + room, high)])
    return limits, without


class _Sums:
    """Absolute errors of one way to act, summed over looks: float64 (H, A)."""

    def __init__(self, horizon: int, channels: int) -> None:
        self._errors, self._counts = np.zeros((horizon, channels)), np.zeros((horizon, 1))

    def add(self, errors: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        """Adds errors (N, H, A) of those steps that are valid (N, H)."""
        self._errors += np.where(valid[..., None], errors, 0).sum(axis=0)
        self._counts += valid.sum(axis=0)[:, None]

    def means(self) -> NDArray[np.float64]:
        """float64 (A, H)."""
        means: NDArray[np.float64] = (self._errors / np.maximum(self._counts, 1)).T
        return means


class _Anchors:
    """Distances of attention peaks from labels, by camera and anchor."""

    def __init__(self, manifest: PreparedManifest) -> None:
        self._size = manifest.image_size
        self._names = ["task", *(manifest.end_effectors or ["end effector"])]
        self._distances: dict[tuple[str, str], list[float]] = {}

    def add(self, role: str, maps: NDArray[np.float32], points: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Adds looks: attention (N, K, h, w), labels (N, 1 + E, 2) and their validity (N, 1 + E)."""
        height, width = maps.shape[2:]
        peaks = maps.reshape(*maps.shape[:2], -1).argmax(axis=2)
        at = np.stack([(peaks % width + 0.5) / width, (peaks // width + 0.5) / height], axis=-1) * self._size
        for c, name in enumerate(self._names[: maps.shape[1]]):
            apart = np.linalg.norm(at[:, c] - points[:, c], axis=-1)[valid[:, c]]
            self._distances.setdefault((role, name), []).extend(float(value) for value in apart)

    def errors(self) -> list[AnchorError]:
        """One of each camera and anchor that has labels."""
        return [
            AnchorError(
                camera=role,
                anchor=name,
                median=round(float(np.median(values)), 3),
                ninety=round(float(np.quantile(values, 0.9)), 3),
                looks=len(values),
            )
            for (role, name), values in self._distances.items()
            if values
        ]


def evaluate_offline(policy: Policy, data: Path, way: Execution, *, data_version: str) -> OfflineResult:
    """Asks a policy along the held-out episodes of prepared data, and compares its chunks with what was done.

    It looks every `way.execute` frames, as it would when it runs. Errors are absolute differences of recorded and
    asked actions in the channels' units; over channels they are averaged in `scales`.

    Args:
        policy: Of the data's embodiment.
        data: Prepared data.
        way: How it is run.
        data_version: Digest that names the data.

    Raises:
        BadInput: The data are damaged, or do not fit the policy.
    """
    manifest = read_manifest(data)
    embodiment, horizon = manifest.embodiment, policy.horizon
    demonstrations, held_out = PackedEpisodes(data, "train"), PackedEpisodes(data, "validation")
    if not demonstrations.spans:
        raise BadInput(f"{data} has no training episodes to compare with: run `posa data prepare` again")
    scale = scales(demonstrations.action, embodiment.action)
    limits, without = allowed(embodiment, demonstrations.action)
    hold = HoldPose(demonstrations, embodiment.state, embodiment.action)
    nearest = NearestDemonstration(demonstrations, embodiment.state)
    sums = {name: _Sums(horizon, len(scale)) for name in ("policy", "hold", "nearest")}
    anchors, rules = _Anchors(manifest), commanded_grippers(embodiment)
    grippers = {name: GripperTimes(rule) for name, rule in rules.items()}
    columns = {channel.name: column for column, channel in enumerate(embodiment.action)}
    policy = policy.with_flow(way.flow_steps, way.start_noise)
    replays: list[Replay] = []
    for number, first, length in _chosen(held_out):
        looks = np.arange(first, first + length, min(way.execute, horizon), dtype=np.int64)
        recorded, valid = held_out.chunks(looks, horizon)
        asked, attention = _ask(policy, held_out, looks, number)
        chunks = {"policy": asked, "hold": hold.chunks(held_out, looks, horizon)}
        chunks["nearest"] = nearest.chunks(held_out, looks, horizon)
        totals: dict[str, float] = {}
        for name, chunk in chunks.items():
            errors = np.abs(in_numbers_of(recorded, chunk, embodiment) - recorded)
            sums[name].add(errors, valid)
            totals[name] = float((errors / scale).mean(axis=2)[valid].mean())
        beyond = (asked < limits[0]) | (asked > limits[1])
        row = OfflineEpisode(
            number=number,
            instruction=held_out.instruction(first),
            frames=length,
            looks=len(looks),
            policy=_rounded(totals["policy"]) if np.isfinite(asked).all() else None,
            hold=_rounded(totals["hold"]),
            nearest=_rounded(totals["nearest"]),
            outside=int(beyond.any(axis=2).sum()),
        )
        signal = _signal(asked, looks - first, length)
        done = held_out.action[first : first + length]
        replays.append(Replay(row, looks, signal, done, attention))
        if attention:
            labels = held_out.labels(looks.tolist())
            for role, maps in attention.items():
                anchors.add(role, maps, labels.points[role], labels.valid[role])
        for name, times in grippers.items() if row.policy is not None else ():
            times.add(done[:, columns[name]], signal[:, columns[name]], manifest.fps)
    finite = all(replay.episode.policy is not None for replay in replays)
    means = {name: total.means() for name, total in sums.items()}
    evidence = OfflineEvidence(
        policy_digest=policy.digest,
        data=data_version,
        embodiment=embodiment.id,
        fps=manifest.fps,
        horizon=horizon,
        image_size=manifest.image_size,
        execution=way,
        held_out=len(held_out.spans),
        limits=without,
        episodes=[replay.episode for replay in replays],
        channels=[
            ChannelError(
                name=channel.name,
                unit=channel.unit,
                held=hold.held[c],
                scale=_rounded(scale[c]),
                policy=[_rounded(v) for v in means["policy"][c]] if finite else None,
                hold=[_rounded(v) for v in means["hold"][c]],
                nearest=[_rounded(v) for v in means["nearest"][c]],
            )
            for c, channel in enumerate(embodiment.action if replays else ())
        ],
        anchors=anchors.errors(),
        events=[times.timing() for times in grippers.values()],
        hardware=hardware(),
        versions=versions(),
    )
    worst = sorted(replays, key=lambda r: -np.inf if r.episode.policy is None else -r.episode.policy)
    return OfflineResult(evidence, worst)


def _chosen(held_out: PackedEpisodes) -> Iterator[tuple[int, int, int]]:
    """Number, first frame and length of the episodes that are evaluated: all that are whole, or some evenly spread."""
    spans, whole = held_out.spans, held_out.whole()
    if len(whole) < len(spans):
        say(f"{len(spans) - len(whole)} of {len(spans)} held-out episodes lack a camera and are left out")
    count = min(len(whole), MOST_EPISODES)
    places: list[int] = np.unique(np.linspace(0, len(whole) - 1, count).round().astype(int)).tolist()
    numbers = [whole[place] for place in places]
    with progress("evaluate offline", len(numbers), unit="episodes") as advance:
        for number in numbers:
            yield number, *spans[number]
            advance(1)


def _ask(
    policy: Policy, episodes: PackedEpisodes, looks: NDArray[np.int64], number: int
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The policy's chunks, float32 (N, H, A), and its attention where there are labels to compare it with."""
    chunks, maps = [], dict[str, list[NDArray[np.float32]]]()
    for begin in range(0, len(looks), _AT_ONCE):
        frames = looks[begin : begin + _AT_ONCE].tolist()
        seeds = [look_seed(number, begin + n) for n in range(len(frames))]
        chunk = policy.act(episodes.observations(frames), seed=seeds, attention=episodes.labelled)
        chunks.append(chunk.actions)
        for role, values in (chunk.attention or {}).items():
            maps.setdefault(role, []).append(np.asarray(values))
    return np.concatenate(chunks), {role: np.concatenate(values) for role, values in maps.items()}


def _signal(chunks: NDArray[np.float32], starts: NDArray[np.int64], length: int) -> NDArray[np.float32]:
    """float32 (T, A): of each chunk the actions up to the next look."""
    ends = np.append(starts[1:], length)
    pieces = [chunk[: end - start] for chunk, start, end in zip(chunks, starts, ends, strict=True)]
    return np.concatenate(pieces)


def _rounded(value: float) -> float:
    """To six significant digits: what follows differs between machines."""
    return float(f"{value:.6g}")
