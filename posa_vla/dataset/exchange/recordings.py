"""Which stored episode is of the same recording as one that comes in, declared otherwise: one of the two counts."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posa_vla.episodes.content import CAMERA_VECTORS, array_parts, signals_digest
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, EpisodeRecord
from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import PosaError


@dataclass(frozen=True)
class Same:
    """A stored episode of the same recording.

    Attributes:
        digest: Its digest.
        adds: Parts that the new episode alone has, or has with other values; without any the stored one counts on.
        lacks: Parts that the stored episode alone has.
    """

    digest: str
    adds: list[str]
    lacks: list[str]

    @property
    def recalibrated(self) -> bool:
        """Whether the two differ in what a calibration gives."""
        return any(_of_calibration(name) for name in (*self.adds, *self.lacks))

    @property
    def calibrated_alone(self) -> bool:
        """Whether the stored one alone has something that a calibration gives."""
        return any(map(_of_calibration, self.lacks))


def _of_calibration(name: str) -> bool:
    return name.split(".")[0] in CAMERA_VECTORS


class Recordings:
    """The recordings that a store held when this was made.

    Two episodes are of one recording if state, action and first pictures are the same to the last bit, and what the
    robot was asked to do; words that were missing may have been supplied. Calibration, poses and gripper that were
    declared since make no other recording of it, nor does what a copy of its video stream puts beside the pictures.
    """

    def __init__(self, store: EpisodeStore) -> None:
        self._store = store
        gone = store.replaced()
        self._places: dict[tuple[str, int], list[tuple[str, EpisodeRecord]]] = {}
        for batch in store.batches():
            try:
                reader = DatasetReader(store.folder(batch))
            except PosaError:
                continue  # validation names it
            for record in reader.records:
                if record.extra.digest not in gone:
                    key = reader.embodiment.id, record.length
                    self._places.setdefault(key, []).append((batch, record))
        self._reader = functools.lru_cache(4)(lambda batch: DatasetReader(store.folder(batch)))
        self._signals = functools.cache(self._read_signals)

    def _read_signals(self, key: tuple[str, int]) -> dict[str, list[tuple[str, EpisodeRecord]]]:
        """Digest of state and action -> places, of the episodes of an embodiment and length."""
        found: dict[str, list[tuple[str, EpisodeRecord]]] = {}
        for batch, record in self._places.get(key, ()):
            try:
                table = self._reader(batch).table(record)
            except PosaError:
                continue
            vectors = [_numbers(table[name].combine_chunks()) for name in ("observation.state", "action")]
            found.setdefault(signals_digest(*vectors), []).append((batch, record))
        return found

    def has(self, embodiment: str, frames: int, signals: str) -> bool:
        """Whether an episode of an embodiment and length has this digest of state and action (`signals_digest`)."""
        return signals in self._signals((embodiment, frames))

    def same(self, episode: Episode) -> list[Same]:
        """The stored episodes of its recording that it does not equal.

        Raises:
            BadInput: Its pictures cannot be read.
        """
        places = self._signals((episode.embodiment, len(episode)))
        found = []
        for batch, record in places.get(signals_digest(episode.state, episode.action), ()):
            try:
                stored = self._reader(batch).episode(record)
                told = {"", episode.instruction, *(episode.prompts or ())}
                alike = stored.instruction in told and _pictures(stored) == _pictures(episode)
            except PosaError:
                continue
            if alike:
                found.append(Same(record.extra.digest, *_difference(stored, episode)))
        return found


def _numbers(column: pa.Array) -> NDArray[np.float32]:
    flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    numbers: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False)
    return numbers


def _pictures(episode: Episode) -> dict[str, bytes]:
    """The first picture of each camera: encoded, where it came so."""
    first = {}
    for role, camera in episode.cameras.items():
        images = camera.images
        first[role] = images.first_encoded() if isinstance(images, StoredImages) else images[0].tobytes()
    return first


def _difference(stored: Episode, episode: Episode) -> tuple[list[str], list[str]]:
    """What the second one has besides or otherwise, and what only the first one has."""
    before, now = array_parts(stored), array_parts(episode)
    adds = [
        name
        for name, part in now.items()
        if not isinstance(part, StoredImages)
        and (name not in before or not np.array_equal(part, np.asarray(before[name]), equal_nan=True))
    ]
    adds += [n for n in ("instruction", "success", "source") if getattr(stored, n) != getattr(episode, n)]
    # Recorded times may have been mended by making them regular.
    if stored.timestamps is not None and episode.timestamps is None:
        adds.append("timestamps")
    lacks = before.keys() - now.keys() - {"timestamps"}
    if stored.prompts != episode.prompts:
        if episode.prompts is None:
            lacks.add("prompts")
        else:
            adds.append("prompts")
    return adds, sorted(lacks)
