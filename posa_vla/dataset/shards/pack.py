"""Training shards: every frame decoded and labelled once, laid out for memory-mapped gathering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.labels import anchor_labels
from posa_vla.dataset.shards.manifest import MANIFEST, LabelShare, PreparedManifest, SplitCount
from posa_vla.dataset.shards.spread import least_stds
from posa_vla.dataset.shards.taken_frames import Taken, taken_frames
from posa_vla.dataset.shards.tensor_file import TensorFileWriter
from posa_vla.dataset.split import SPLITS, split_of
from posa_vla.episodes.action_space import action_space
from posa_vla.episodes.embodiment import Channel, Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.images import Fit, fit_images
from posa_vla.errors import BadInput
from posa_vla.files import new_folder, write_json
from posa_vla.params import PrepareParams
from posa_vla.target_params import EVERYTHING, Where

# Standard deviations that a state is away from the mean at most, as a network sees it.
_STATE_CLIP = 5.0


def _statistics(rows: NDArray[np.float32], channels: Sequence[Channel]) -> dict[str, list[float]]:
    values = np.asarray(rows, np.float64)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    std = values.std(axis=0)
    return {
        "mean": values.mean(axis=0).tolist(),
        "std": std.tolist(),
        "q01": low.tolist(),
        "q99": high.tolist(),
        "floor": least_stds(channels, std, np.abs(values).max(axis=0)),
    }


def _channels(embodiment: Embodiment) -> int:
    """Anchor channels: the task's, and one of each end effector."""
    return 1 + (len(embodiment.end_effectors) or 1)


def _declare(writer: TensorFileWriter, embodiment: Embodiment, size: int) -> None:
    for role in embodiment.cameras:
        writer.declare(f"images.{role}", np.uint8, (size, size, 3))
        writer.declare(f"present.{role}", np.bool_, ())
        writer.declare(f"anchor_points.{role}", np.float32, (_channels(embodiment), 2))
        writer.declare(f"anchor_valid.{role}", np.bool_, (_channels(embodiment),))
    writer.declare("state", np.float32, (len(embodiment.state),))
    writer.declare("action", np.float32, (len(embodiment.action),))
    for name in ("caption", "episode", "frame", "length"):
        writer.declare(name, np.int64, ())


def _append(
    writer: TensorFileWriter,
    episode: Episode,
    embodiment: Embodiment,
    params: PrepareParams,
    number: int,
    captions: list[int],
    labelled: dict[str, NDArray[np.int64]],
    taken: Taken,
) -> None:
    rows, frames, size = taken.rows, len(taken.rows), params.image_size
    labels = anchor_labels(episode, embodiment, (params.sigma_task, params.sigma_end))
    for role in embodiment.cameras:
        writer.append(f"present.{role}", np.full(frames, role in episode.cameras))
        if role not in episode.cameras:
            channels = _channels(embodiment)
            writer.append(f"images.{role}", np.zeros((frames, size, size, 3), np.uint8))
            writer.append(f"anchor_points.{role}", np.zeros((frames, channels, 2), np.float32))
            writer.append(f"anchor_valid.{role}", np.zeros((frames, channels), np.bool_))
            continue
        images = episode.cameras[role].images
        fit = Fit.of(images.shape[1], images.shape[2], size)
        points = np.where(labels[role].valid[..., None], fit.points(labels[role].points), 0).astype(np.float32)
        valid = labels[role].valid[rows]
        fitted = fit_images(images, size)
        writer.append(f"images.{role}", fitted if frames == len(episode) else fitted[rows])
        writer.append(f"anchor_points.{role}", points[rows])
        writer.append(f"anchor_valid.{role}", valid)
        labelled[role] += valid.sum(axis=0)
    writer.append("state", episode.state[rows])
    writer.append("action", taken.action)
    writer.append("caption", np.array(captions, np.int64)[rows])
    writer.append("episode", np.full(frames, number, np.int64))
    writer.append("frame", np.arange(frames, dtype=np.int64))
    writer.append("length", np.full(frames, frames, np.int64))


def pack_episodes(
    episodes: Iterable[Episode],
    embodiment: Embodiment,
    params: PrepareParams,
    out: Path,
    *,
    source_digest: str = "",
    held_out: frozenset[float] | None = None,
    where: Where = EVERYTHING,
) -> PreparedManifest:
    """Writes the training shards of a sequence of episodes in one pass, one episode in memory at a time.

    Args:
        episodes: All of one embodiment and control rate; images of any size are fitted into squares.
        embodiment: Its declaration; stored in the manifest.
        params: Image size and split.
        out: Folder that appears whole: manifest.json, normalisation.json, train.safetensors, validation.safetensors.
        source_digest: Digest of the episodes' store, for the manifest.
        held_out: Of few episodes, which are held out (`few_held_out`).
        where: Filter that chose them, for the manifest.

    Returns:
        The manifest.

    Raises:
        BadInput: There is no training episode, episodes do not fit each other or the embodiment, or `actions` does not.
    """
    # What training would refuse is refused before the pictures are packed.
    action_space(embodiment, params.actions)
    fps = 0.0
    captions: dict[str, int] = {}
    labelled = {role: np.zeros(_channels(embodiment), np.int64) for role in embodiment.cameras}
    absent: dict[str, int] = {}
    trimmed = 0
    counts = {split: {"episodes": 0, "frames": 0} for split in SPLITS}
    with new_folder(out) as folder:
        writers = {split: TensorFileWriter(folder / f"{split}.safetensors") for split in SPLITS}
        for number, episode in enumerate(episodes):
            episode.check()
            if episode.embodiment != embodiment.id:
                raise BadInput(f"episode {number} is of embodiment {episode.embodiment!r}, expected {embodiment.id!r}")
            if number == 0:
                fps = embodiment.control_hz if params.resample else episode.fps
                for writer in writers.values():
                    _declare(writer, embodiment, params.image_size)
            if episode.fps != fps and not params.resample:
                raise BadInput(
                    f"episode {number} runs at {episode.fps} Hz, the ones before at {fps} Hz: prepare them apart, or "
                    "with prepare.resample=true"
                )
            taken = taken_frames(episode, embodiment, params)
            trimmed += taken.trimmed
            if not episode.cameras or not set(episode.cameras) <= set(embodiment.cameras):
                raise BadInput(
                    f"episode {number} has cameras {sorted(episode.cameras)}, embodiment {embodiment.id} declares "
                    f"{sorted(embodiment.cameras)}: collect with the declared cameras, or with some of them"
                )
            for role in set(embodiment.cameras) - set(episode.cameras):
                absent[role] = absent.get(role, 0) + len(taken.rows)
            split = split_of(episode, params.validation_fraction, held_out)
            # The episode's own words are listed in any case: who makes a vocabulary of the captions has theirs.
            numbers = [captions.setdefault(t, len(captions)) for t in (episode.instruction, *(episode.prompts or ()))]
            asked = numbers[1:] or numbers * len(episode)
            _append(writers[split], episode, embodiment, params, number, asked, labelled, taken)
            counts[split]["episodes"] += 1
            counts[split]["frames"] += len(taken.rows)
        if not counts["train"]["episodes"]:
            raise BadInput(
                f"no training episodes: {counts['validation']['episodes']} are held out by prepare.validation_fraction "
                f"{params.validation_fraction}; collect more"
            )
        normalisation: dict[str, Any] = {
            name: _statistics(writers["train"].rows(name), channels)
            for name, channels in (("state", embodiment.state), ("action", embodiment.action))
        }
        normalisation |= {"schema_version": 2, "state_clip": _STATE_CLIP}
        for writer in writers.values():
            writer.finish()
        frames = sum(count["frames"] for count in counts.values())
        shares = {role: np.array([valid[0], valid[1:].mean()]) / frames for role, valid in labelled.items()}
        manifest = PreparedManifest(
            schema_version=3 if absent or trimmed else 2 if embodiment.end_effectors else 1,
            labels={
                role: LabelShare(task=task, end_effector=end)
                for role, (task, end) in ((role, share.round(4).tolist()) for role, share in shares.items())
            },
            end_effectors=list(embodiment.end_effectors),
            embodiment=embodiment,
            image_size=params.image_size,
            cameras=list(embodiment.cameras),
            captions=list(captions),
            state_dim=len(embodiment.state),
            action_dim=len(embodiment.action),
            fps=fps,
            splits={split: SplitCount(**count) for split, count in counts.items()},
            absent=dict(sorted(absent.items())),
            trimmed=trimmed,
            source_digest=source_digest,
            where=where,
        )
        write_json(folder / "normalisation.json", normalisation)
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest
