"""Writing LeRobot datasets v3.0, one episode in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from posa_vla.episodes.content import CAMERA_VECTORS, batch_digest, episode_digest, vectors
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot import layout as layout
from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.media.stills import encode_png
from posa_vla.episodes.media.video import StoredVideo, VideoFiles
from posa_vla.errors import BadInput
from posa_vla.files import new_folder, write_json

# Numbers beyond it enter no statistics: sums of their squares would not be finite.
_LARGEST = 1e140
# Images of an episode that enter meta/stats.json; LeRobot samples them too.
STATISTICS_IMAGES = 8


class _Moments:
    """Running minimum, maximum, mean and standard deviation of the channels of one feature."""

    def __init__(self) -> None:
        self._count = 0
        self._finite = self._sum = self._squares = np.zeros(0)
        self._low = self._high = np.zeros(0)

    def add(self, values: NDArray[Any]) -> None:
        """Adds (n, channels)."""
        # Channels first: numpy reduces along a contiguous axis many times faster.
        channels = np.ascontiguousarray(values.T, dtype=np.float64)
        # What else was recorded may hold anything; NaN, infinity, and what has no finite square say nothing here.
        finite = np.abs(channels) < _LARGEST
        low = np.where(finite, channels, np.inf).min(axis=1)
        high = np.where(finite, channels, -np.inf).max(axis=1)
        channels = np.where(finite, channels, 0)
        if self._count == 0:
            self._finite, self._sum, self._squares = (np.zeros_like(low) for _ in range(3))
            self._low, self._high = low, high
        self._count += len(values)
        self._finite = self._finite + finite.sum(axis=1)
        self._sum = self._sum + channels.sum(axis=1)
        self._squares = self._squares + (channels**2).sum(axis=1)
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def summary(self, shape: tuple[int, ...]) -> dict[str, Any]:
        count = np.maximum(self._finite, 1)
        mean = self._sum / count
        spread = np.sqrt(np.maximum(self._squares / count - mean**2, 0))
        low, high = (np.where(self._finite > 0, bound, 0) for bound in (self._low, self._high))
        numbers = {"min": low, "max": high, "mean": mean, "std": spread}
        return {name: value.reshape(shape).tolist() for name, value in numbers.items()} | {"count": [self._count]}


class _DataFiles:
    """The data tables: one row group an episode, a new file once one has reached the size limit."""

    def __init__(self, folder: Path, schema: pa.Schema, limit: int) -> None:
        self._folder, self._schema, self._limit = folder, schema, limit
        self._number = -1
        self._sink: Any = None
        self._writer: Any = None

    def append(self, table: pa.Table) -> tuple[int, int]:
        """Writes one episode; returns the numbers of its chunk and file."""
        if self._writer is None or self._sink.tell() >= self._limit:
            self.close()
            self._number += 1
            chunk, number = divmod(self._number, layout.CHUNK_FILES)
            path = self._folder / layout.DATA_PATH.format(chunk_index=chunk, file_index=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = path.open("wb")
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="snappy")
        self._writer.write_table(table, row_group_size=len(table))
        chunk, number = divmod(self._number, layout.CHUNK_FILES)
        return chunk, number

    def close(self) -> None:
        """Writes the open file's footer."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None


def _feature(part: str) -> str:
    """The feature of a part of an episode, see `vectors`."""
    kind, _, name = part.partition(".")
    if kind in CAMERA_VECTORS:
        return f"{layout.CAMERA}{name}.{kind}"
    return name if kind == "extra" else layout.PARTS[part]


def _vectors(episode: Episode) -> dict[str, NDArray[Any]]:
    """Feature -> array with a row a frame; pictures and times are written otherwise."""
    return {_feature(name): values for name, values in vectors(episode).items()}


def _table(episode: Episode, schema: pa.Schema, number: int, start: int, tasks: NDArray[np.int64]) -> pa.Table:
    frames = len(episode)
    steps = np.arange(frames)
    columns: dict[str, NDArray[Any]] = {
        **_vectors(episode),
        "timestamp": (steps / episode.fps if episode.timestamps is None else episode.timestamps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(frames, number),
        "index": start + steps,
        "task_index": tasks,
    }
    arrays = []
    for field in schema:
        if pa.types.is_struct(field.type):
            images = episode.cameras[field.name.removeprefix(layout.IMAGES)].images
            stored = images.payloads() if isinstance(images, StoredImages) else (encode_png(i) for i in images)
            encoded = pa.array(list(stored), pa.binary())
            arrays.append(pa.StructArray.from_arrays([encoded, pa.nulls(frames, pa.string())], ["bytes", "path"]))
            continue
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size))
        else:
            arrays.append(pa.array(values.reshape(-1), field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


class _Statistics:
    def __init__(self) -> None:
        self._moments: dict[str, _Moments] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def _add(self, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
        self._moments.setdefault(name, _Moments()).add(values)
        self._shapes[name] = shape

    def add(self, episode: Episode) -> None:
        for name, values in _vectors(episode).items():
            rows = values.reshape(len(episode), -1)
            self._add(name, rows, (rows.shape[1],))
        chosen = np.linspace(0, len(episode) - 1, min(len(episode), STATISTICS_IMAGES)).astype(int)
        for role, camera in episode.cameras.items():
            try:
                # Decoding takes long: one image of each episode has to do.
                images = camera.images.middle() if isinstance(camera.images, StoredImages) else camera.images[chosen]
            except BadInput:
                continue  # bytes that came in damaged are kept as they are: validation finds them and their episode
            self._add(layout.IMAGES + role, images.reshape(-1, 3) / 255, (3, 1, 1))

    def summary(self) -> dict[str, Any]:
        return {name: moments.summary(self._shapes[name]) for name, moments in self._moments.items()}


class _Draft:
    """A dataset in the making, in a folder that nobody sees yet."""

    def __init__(self, folder: Path, embodiment: Embodiment, data_file_mb: int) -> None:
        self._folder, self._embodiment, self._data_file_mb = folder, embodiment, data_file_mb
        self._features: dict[str, dict[str, Any]] = {}
        self._fps = 0.0
        self._schema: pa.Schema = None
        self._files: _DataFiles | None = None
        self._videos: dict[str, VideoFiles] = {}
        self._by_bytes = False
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._extra: list[dict[str, Any]] = []
        self._statistics = _Statistics()
        self._frames = 0

    def _fit(self, episode: Episode) -> _DataFiles:
        """Checks an episode against the ones before; the first one decides what the others must be like."""
        episode.check()
        number = len(self._rows)
        if episode.embodiment != self._embodiment.id:
            raise BadInput(
                f"episode {number} is of embodiment {episode.embodiment!r}, expected {self._embodiment.id!r}"
            )
        features = layout.features_of(episode, self._embodiment)
        if self._files is None:
            self._features, self._fps, self._schema = features, episode.fps, layout.data_schema(features)
            self._files = _DataFiles(self._folder, self._schema, self._data_file_mb * 1_000_000)
            self._by_bytes = any(isinstance(camera.images, StoredImages) for camera in episode.cameras.values())
        stored = any(isinstance(camera.images, StoredImages) for camera in episode.cameras.values())
        if stored != self._by_bytes:
            raise BadInput(
                f"episode {number} has images that {'came encoded' if stored else 'were recorded here'}, unlike the "
                "ones before it: append unlike episodes as batches of their own"
            )
        unlike = [n for n in features.keys() | self._features.keys() if features.get(n) != self._features.get(n)]
        if unlike or episode.fps != self._fps:
            raise BadInput(
                f"episode {number} differs from the ones before it in {', '.join(sorted(unlike)) or 'fps'}: "
                "append unlike episodes as batches of their own"
            )
        return self._files

    def add(self, episode: Episode) -> None:
        files = self._fit(episode)
        number, frames = len(self._rows), len(episode)
        tasks = self._numbered(episode)
        videos = self._append_videos(episode)
        chunk, file = files.append(_table(episode, self._schema, number, self._frames, tasks))
        self._rows.append(
            {
                **videos,
                "episode_index": number,
                "tasks": list(dict.fromkeys([episode.instruction, *(episode.prompts or ())])),
                "length": frames,
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + frames,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        told = {} if episode.prompts is None else {"instruction": episode.instruction}
        self._extra.append(
            {
                "digest": episode_digest(episode),
                "success": episode.success,
                "source": episode.source,
                "scene": episode.scene,
                **told,
            }
        )
        self._statistics.add(episode)
        self._frames += frames

    def _numbered(self, episode: Episode) -> NDArray[np.int64]:
        """The number of each frame's task; the episode's own is listed too."""
        texts = (episode.instruction, *(episode.prompts or ()))
        numbers = [self._tasks.setdefault(text, len(self._tasks)) for text in texts]
        return np.array(numbers[1:] or numbers * len(episode), np.int64)

    def _append_videos(self, episode: Episode) -> dict[str, Any]:
        """Copies the episode's stretches of video; returns where they lie, as columns of its row."""
        row: dict[str, Any] = {}
        for role, camera in episode.cameras.items():
            if isinstance(camera.images, StoredVideo):
                key = layout.IMAGES + role
                if key not in self._videos:
                    # One chunk folder holds more files than a batch ever has (layout.VIDEO_FILE_MB each).
                    path = self._folder / "videos" / key / "chunk-000" / "file-{number:03d}.mp4"
                    self._videos[key] = VideoFiles(path, layout.VIDEO_FILE_MB * 1_000_000)
                number, start, end = self._videos[key].append(camera.images)
                place = {"chunk_index": 0, "file_index": number, "from_timestamp": start, "to_timestamp": end}
                row |= {f"videos/{key}/{name}": value for name, value in place.items()}
        return row

    def close(self) -> None:
        """Closes the files, whatever has been written."""
        if self._files is not None:
            self._files.close()
        for files in self._videos.values():
            files.close()

    def finish(self) -> str:
        """Closes the data files and writes what describes them; returns the batch's digest."""
        if self._files is None:
            raise BadInput("there are no episodes to write, expected at least one")
        self.close()
        write_json(self._folder / layout.STATS_PATH, self._statistics.summary())
        write_json(self._folder / layout.INFO_PATH, self._info())
        digest = batch_digest(self._embodiment, [row["digest"] for row in self._extra])
        hashed = {"hashed": "bytes"} if self._by_bytes else {}
        version = 2 if any("instruction" in row for row in self._extra) else 1
        version = 3 if self._embodiment.end_effectors else version
        posa = {"schema_version": version, "digest": digest, "embodiment": self._embodiment.model_dump(mode="json")}
        write_json(self._folder / layout.POSA_PATH, {**hashed, **posa, "episodes": self._extra})
        pq.write_table(layout.tasks_table(list(self._tasks)), self._folder / layout.TASKS_PATH)
        path = self._folder / layout.EPISODES_PATH
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._rows), path)
        return digest

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self._embodiment.id,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": self._data_file_mb,
            "video_files_size_in_mb": layout.VIDEO_FILE_MB,
            # LeRobot knows whole rates only as integers.
            "fps": int(self._fps) if float(self._fps).is_integer() else self._fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._videos else None,
            "features": self._features,
        }


def write_dataset(
    folder: Path, episodes: Iterable[Episode], embodiment: Embodiment, *, data_file_mb: int = layout.DATA_FILE_MB
) -> str:
    """Writes a LeRobot v3.0 dataset that appears whole, one episode in memory at a time.

    Args:
        folder: Where it appears; what exists there stays as it is.
        episodes: Alike in cameras, image sizes, calibration, control rate.
        embodiment: The one that all of them are of.
        data_file_mb: Size at which a data file is closed and the next begun.

    Returns:
        The batch's digest (`posa_vla.episodes.content.batch_digest`).

    Raises:
        BadInput: There are no episodes, or one does not fit the contract, the embodiment or the others.
    """
    with new_folder(folder) as hidden:
        draft = _Draft(hidden, embodiment, data_file_mb)
        try:
            for episode in episodes:
                draft.add(episode)
            return draft.finish()
        finally:
            draft.close()
