"""Whether what came of a foreign dataset is what was made: every number, word and picture of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lerobot_datasets import LENGTHS, TASKS, reader_of, trajectory
from numpy.typing import NDArray
from videos import moving_picture

from posa_vla.dataset.exchange.ingest import Ingested, ingest
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.store.episode_store import EpisodeStore

WORDS = (TASKS[0], TASKS[1], TASKS[0])


def exact(episode: Episode, number: int, words: str) -> bool:
    """Whether an episode is the one that `make_v21` and `make_v30` made under this number, with these words."""
    state, action = trajectory(number, LENGTHS[number])
    numbers = np.array_equal(episode.state, state) and np.array_equal(episode.action, action)
    (camera,) = episode.cameras.values()
    shown = [_shown(np.asarray(image)) for image in camera.images]
    return numbers and episode.instruction == words and shown == [(number, frame) for frame in range(len(state))]


@functools.cache
def _made() -> tuple[list[tuple[int, int]], NDArray[np.int16]]:
    """Episode and frame of all pictures that were made, and one row of each of their blocks of eight."""
    places = [(number, frame) for number, frames in enumerate(LENGTHS) for frame in range(frames)]
    pictures = [moving_picture(frames, 10 * number)[:, 4::8] for number, frames in enumerate(LENGTHS)]
    return places, np.concatenate(pictures).astype(np.int16)


def _shown(image: NDArray[np.uint8]) -> tuple[int, int]:
    """The episode and the frame that a picture looks most like: encoding has changed it a little."""
    places, pictures = _made()
    return places[int(np.abs(pictures - image[4::8]).mean(axis=(1, 2, 3)).argmin())]


def require_exact(reader: SourceReader, store: EpisodeStore, words: Sequence[str] = WORDS) -> Ingested:
    """Takes a dataset in, and holds everything that lies in the store then against what was made."""
    done = ingest(store, reader)
    kept = {k.episode: k.value for k in store.quarantine.kept().values()}
    assert (len(done.episodes), kept) == (len(LENGTHS), {})
    for number, episode in enumerate(store.episodes()):
        assert exact(episode, number, words[number]), f"episode {number} is another: {episode.instruction!r}"
    return done


def taken_exactly(folder: Path, words: Sequence[str] = WORDS) -> list[str]:
    """Takes a dataset of `make_v21` or `make_v30` in; what was found of it, in words."""
    done = require_exact(reader_of(folder), EpisodeStore(folder.parent / "store"), words)
    return [remark.value for remark in done.remarks]
