"""Datasets v3.0 whose episodes share one video file, of which every picture says its own number."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
from lerobot_datasets import CAMERA, FPS, TASKS, episode_table, make_v30, trajectory, write_table
from numpy.typing import NDArray
from videos import write_video

from posa_vla.episodes.store.episode_store import EpisodeStore

# Cells of a picture, each black or white: a number in binary digits.
_ROWS, _COLUMNS, _CELL = 2, 6, 8


def numbered_pictures(count: int) -> NDArray[np.uint8]:
    """uint8 (count, 16, 48, 3): picture n shows the number n."""
    digits = np.arange(count)[:, None] >> np.arange(_ROWS * _COLUMNS) & 1
    cells = (digits * 255).astype(np.uint8).reshape(count, _ROWS, _COLUMNS, 1)
    return np.repeat(cells.repeat(_CELL, axis=1).repeat(_CELL, axis=2), 3, axis=3)


def numbers_of(images: Iterable[NDArray[np.uint8]]) -> list[int]:
    """The numbers that pictures show."""
    numbers = []
    for image in images:
        cells = image.reshape(_ROWS, _CELL, _COLUMNS, _CELL, 3).mean(axis=(1, 3, 4)).reshape(-1) > 127
        numbers.append(int((cells << np.arange(_ROWS * _COLUMNS)).sum()))
    return numbers


def first_pictures(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Number of each episode's first picture in the file."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]])


def make_shared(
    folder: Path,
    lengths: Sequence[int],
    times: Callable[[int, int, int], tuple[float, float | None]],
    *,
    listed: Sequence[int] | None = None,
    rate: Fraction = Fraction(FPS),
    codec: str = "libx264",
) -> Path:
    """A dataset of one table and one video.

    Args:
        folder: Where it appears.
        lengths: Frames of each episode that the video has.
        times: Number, first picture and length of an episode -> from_timestamp and to_timestamp.
        listed: Episodes that the dataset has; all by default.
        rate: Of the video.
        codec: Of the video.
    """
    make_v30(folder, video=True)
    firsts, tables, rows, start = first_pictures(lengths).tolist(), [], [], 0
    for number in range(len(lengths)) if listed is None else listed:
        tables.append(episode_table(number, lengths[number], start, {}))
        begin, end = times(number, firsts[number], lengths[number])
        row = {"episode_index": number, "tasks": [TASKS[number % 2]], "length": lengths[number]}
        row |= {"data/chunk_index": 0, "data/file_index": 0}
        row |= {f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": 0}
        rows.append({**row, f"videos/{CAMERA}/from_timestamp": begin, f"videos/{CAMERA}/to_timestamp": end})
        start += lengths[number]
    write_table(folder / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
    write_table(folder / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | {"total_episodes": len(rows)}))
    write_video(folder / shared_file(), numbered_pictures(sum(lengths)), rate, codec)
    return folder


def shared_file() -> str:
    """Where the video lies in such a dataset."""
    return f"videos/{CAMERA}/chunk-000/file-000.mp4"


def stored_numbers(store: EpisodeStore, lengths: Sequence[int]) -> dict[int, list[int]]:
    """Episode, told by its states -> the numbers that its stored pictures show."""
    found = {}
    for episode in store.episodes():
        (number,) = [k for k, n in enumerate(lengths) if np.array_equal(trajectory(k, n)[0], episode.state)]
        found[number] = numbers_of(episode.cameras["head"].images)
    return found


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Gives an MP4 file of one track another edit list.

    Args:
        path: The file, its index behind its pictures.
        edits: (duration in ms, first moment in the track's ticks, or -1 for a pause) each.
    """
    data = bytearray(path.read_bytes())
    at = data.find(b"elst") - 4
    size = int.from_bytes(data[at : at + 4])
    entries = b"".join(struct.pack(">IiI", duration, first, 1 << 16) for duration, first in edits)
    new = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    data[at : at + size] = new
    for box in (b"edts", b"trak", b"moov"):
        start = data.rfind(box, 0, at) - 4
        data[start : start + 4] = (int.from_bytes(data[start : start + 4]) + len(new) - size).to_bytes(4)
    path.write_bytes(data)
