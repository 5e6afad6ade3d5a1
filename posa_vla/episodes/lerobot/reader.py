"""LeRobot datasets v3.0: reading, and the one place to import both directions from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from posa_vla.episodes.content import CAMERA_VECTORS
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.lerobot import layout as layout
from posa_vla.episodes.lerobot.posa_meta import PosaEpisode, PosaMeta
from posa_vla.episodes.lerobot.writer import write_dataset
from posa_vla.episodes.media.images import Images
from posa_vla.episodes.media.stills import StoredStills, decode_still
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.episodes.outside_files import DAMAGED, damage, read_table
from posa_vla.errors import BadInput
from posa_vla.files import read_json, safe_join
from posa_vla.schema import parse

__all__ = ["DatasetReader", "EpisodeRecord", "read_episodes", "write_dataset"]

_OF_CAMERAS = (layout.IMAGES, layout.CAMERA)


@dataclass(frozen=True)
class EpisodeRecord:
    """Where an episode lies, and what is known of it without reading a frame.

    Attributes:
        number: Its number in the dataset.
        length: Frames.
        instruction: What the robot was asked to do.
        path: Data file, relative to the dataset.
        row_group: The row group of that file that is this episode.
        extra: Digest, success, source, scene, and whether its frames have words of their own.
        videos: Feature -> file relative to the dataset, start and end of the episode in it (s).
    """

    number: int
    length: int
    instruction: str
    path: str
    row_group: int
    extra: PosaEpisode
    videos: dict[str, tuple[str, float, float]]


def _episodes_table(folder: Path) -> pa.Table:
    try:
        return read_table(folder / layout.EPISODES_PATH)
    except BadInput as error:
        raise BadInput(f"{error}: the dataset is incomplete; delete it and record it again") from None


class DatasetReader:
    """One dataset folder; opening it reads and cross-checks the metadata, frames are read when asked for.

    Attributes:
        folder: The dataset.
        embodiment: Its embodiment.
        digest: The digest that its writer gave it.
        fps: Frames per second.
        features: `features` of info.json.
        records: One an episode.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a dataset.

        Raises:
            BadInput: It is incomplete, damaged, or not a v3.0 dataset that can be read here.
        """
        self.folder = folder
        if not folder.is_dir():
            raise BadInput(f"{folder} is not a folder, expected a LeRobot dataset")
        info = read_json(folder / layout.INFO_PATH)
        version = info.get("codebase_version") if isinstance(info, dict) else None
        if version != layout.CODEBASE_VERSION:
            raise BadInput(
                f"{folder} is a dataset of version {version!r}, expected {layout.CODEBASE_VERSION!r}: convert it with "
                "LeRobot's own tools first"
            )
        posa = parse(PosaMeta, read_json(folder / layout.POSA_PATH), str(folder / layout.POSA_PATH))
        self.embodiment, self.digest, self._hashed = posa.embodiment, posa.digest, posa.hashed
        try:
            self.fps = float(info["fps"])
            self.features: dict[str, dict[str, Any]] = dict(info["features"])
            self._schema = layout.data_schema(self.features)
            self.records = self._records(info, posa)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise BadInput(f"{folder}: metadata is not readable: a value is missing or of another type") from None
        self._open: tuple[str, Any] | None = None
        # Read where an episode has words for its frames.
        self._tasks: dict[int, str] | None = None

    def _records(self, info: dict[str, Any], posa: PosaMeta) -> list[EpisodeRecord]:
        rows = _episodes_table(self.folder).to_pylist()
        if not len(rows) == len(posa.episodes) == int(info["total_episodes"]):
            raise BadInput(
                f"{self.folder} is incomplete: info.json counts {info['total_episodes']} episodes, "
                f"{layout.EPISODES_PATH} {len(rows)}, posa.json {len(posa.episodes)}; delete it and record it again"
            )
        records: list[EpisodeRecord] = []
        frames = 0
        for number, (row, extra) in enumerate(zip(rows, posa.episodes, strict=True)):
            length = int(row["length"])
            place = (int(row["dataset_from_index"]), int(row["dataset_to_index"]))
            if int(row["episode_index"]) != number or length < 1 or place != (frames, frames + length):
                raise BadInput(
                    f"{self.folder}: episode {number} claims frames {place[0]} to {place[1]} and length {length}, "
                    f"expected it to start at {frames}; delete the dataset and record it again"
                )
            chunk, file = int(row["data/chunk_index"]), int(row["data/file_index"])
            path = layout.fill_path(str(info["data_path"]), chunk_index=chunk, file_index=file)
            follows = bool(records) and records[-1].path == path
            group = records[-1].row_group + 1 if follows else 0
            videos = {key: _stretch(row, key, info) for key, f in self.features.items() if f["dtype"] == "video"}
            asked = str(row["tasks"][0]) if extra.instruction is None else extra.instruction
            records.append(EpisodeRecord(number, length, asked, path, group, extra, videos))
            frames += length
        if frames != int(info["total_frames"]):
            raise BadInput(f"{self.folder}: info.json counts {info['total_frames']} frames, the episodes {frames}")
        return records

    def __len__(self) -> int:
        return len(self.records)

    def _file(self, relative: str) -> Any:
        """The opened data file; the last one stays open, for episodes are read in order."""
        if self._open is None or self._open[0] != relative:
            path = safe_join(self.folder, relative)
            try:
                file = pq.ParquetFile(path)
            except FileNotFoundError:
                raise BadInput(f"{path} does not exist: the dataset is incomplete; record it again") from None
            except DAMAGED:
                raise BadInput(f"{path} {damage(path)}; record it again") from None
            other = set(self._schema.names) ^ set(file.schema_arrow.names)
            if other:
                file.close()
                raise BadInput(f"{path} and info.json disagree about the columns {', '.join(sorted(other))}")
            if self._open is not None:
                self._open[1].close()
            self._open = (relative, file)
        return self._open[1]

    def table(self, record: EpisodeRecord) -> pa.Table:
        """All columns of one episode as stored.

        Raises:
            BadInput: The data file is missing, damaged or not the one that the metadata describes.
        """
        file = self._file(record.path)
        try:
            table = file.read_row_group(record.row_group) if record.row_group < file.num_row_groups else None
        except DAMAGED:
            raise BadInput(f"{self.folder / record.path}: the rows of episode {record.number} are damaged") from None
        if table is None or table.num_rows != record.length:
            raise BadInput(
                f"{self.folder / record.path}: row group {record.row_group} has "
                f"{'no' if table is None else table.num_rows} rows, episode {record.number} {record.length} frames"
            )
        numbers = table["episode_index"].to_numpy()
        if (numbers != record.number).any():
            raise BadInput(
                f"{self.folder / record.path}: row group {record.row_group} holds episode {numbers[0]}, "
                f"expected {record.number}"
            )
        try:
            # Other writers may store a vector as a list of any length.
            return table.select(self._schema.names).cast(self._schema)
        except DAMAGED:
            raise BadInput(
                f"{self.folder / record.path}: a column is not of the type that info.json declares"
            ) from None

    def episode(self, record: EpisodeRecord, table: pa.Table | None = None) -> Episode:
        """Reads one episode.

        Args:
            record: Which one.
            table: Its columns, where they have been read already.

        Raises:
            BadInput: As `table`, or an image cannot be decoded, or a value is not finite.
        """
        table = self.table(record) if table is None else table
        state, action = _array(table, "observation.state"), _array(table, "action")
        assert state is not None  # for the type checker: columns agree with the features, which have both
        assert action is not None
        pose, gripper = (self._ends(table, layout.PARTS[part]) for part in ("end_effector", "gripper"))
        times = table["timestamp"].to_numpy()
        regular = np.array_equal(times, (np.arange(record.length) / self.fps).astype(np.float32))
        others = [n for n in table.column_names if n not in layout.KNOWN and not n.startswith(_OF_CAMERAS)]
        extra = {name: _array(table, name) for name in others}
        episode = Episode(
            embodiment=self.embodiment.id,
            instruction=record.instruction,
            source=record.extra.source,
            success=record.extra.success,
            fps=self.fps,
            cameras={role: self._camera(role, record, table) for role in self.embodiment.cameras},
            state=state,
            action=action,
            end_effector=pose,
            gripper=None if gripper is None else gripper[..., 0],
            scene=record.extra.scene,
            timestamps=None if regular else times.astype(np.float64),
            extra={name: values for name, values in extra.items() if values is not None},
            prompts=None if record.extra.instruction is None else self._prompts(table),
        )
        episode.check()
        # Raises where there are more or fewer channels than the embodiment declares.
        layout.features_of(episode, self.embodiment)
        return episode

    def _ends(self, table: pa.Table, name: str) -> NDArray[Any] | None:
        """(T, width) of a column that each end effector has a part of, or (T, E, width) of several."""
        rows, ends = _array(table, name), len(self.embodiment.end_effectors)
        if rows is None or not ends:
            return rows
        if rows.shape[1] % ends:
            raise BadInput(f"{name} has {rows.shape[1]} channels, expected as many of each of {ends}")
        return rows.reshape(len(rows), ends, -1)

    def _prompts(self, table: pa.Table) -> tuple[str, ...]:
        """What the robot was asked at each frame."""
        if self._tasks is None:
            rows = read_table(self.folder / layout.TASKS_PATH).to_pylist()
            self._tasks = {int(row["task_index"]): str(row["task"]) for row in rows}
        try:
            return tuple(self._tasks[number] for number in table["task_index"].to_pylist())
        except KeyError as error:
            raise BadInput(f"{self.folder / layout.TASKS_PATH} has no task {error}, which frames name") from None

    def _camera(self, role: str, record: EpisodeRecord, table: pa.Table) -> CameraTrack:
        vectors = {part: _array(table, f"{layout.CAMERA}{role}.{part}") for part in CAMERA_VECTORS}
        vectors["end_effector_pixel"] = self._ends(table, f"{layout.CAMERA}{role}.end_effector_pixel")
        return CameraTrack(self._images(layout.IMAGES + role, record, table), **vectors)

    def _images(self, name: str, record: EpisodeRecord, table: pa.Table) -> Images:
        if name not in self.features:
            raise BadInput(f"{self.folder}: no feature {name}, and the embodiment declares that camera")
        height, width, _ = self.features[name]["shape"]
        if name in record.videos:
            path, start, end = record.videos[name]
            place = safe_join(self.folder, path)
            return StoredVideo(place, start, end, record.length, self.fps, (height, width))
        if self._hashed == "bytes":
            place = safe_join(self.folder, record.path)
            rows, group = range(record.length), [record.row_group]
            return StoredStills(self.folder, place, name, rows, (height, width), group)
        images = np.empty((record.length, height, width, 3), np.uint8)
        for frame, stored in enumerate(table[name].combine_chunks().field("bytes")):
            try:
                images[frame] = decode_still(stored.as_py() or b"", height, width)
            except BadInput as error:
                raise BadInput(f"{self.folder}: episode {record.number}, frame {frame}, {name}: {error}") from None
        return images


def _stretch(row: dict[str, Any], key: str, info: dict[str, Any]) -> tuple[str, float, float]:
    """File, start and end (s) of an episode's video."""
    chunk, number = (int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index"))
    path = layout.fill_path(str(info["video_path"]), video_key=key, chunk_index=chunk, file_index=number)
    return path, float(row[f"videos/{key}/from_timestamp"]), float(row[f"videos/{key}/to_timestamp"])


def _array(table: pa.Table, name: str) -> NDArray[Any] | None:
    """(T, channels) of a vector column, or None where there is no such column."""
    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    if column.null_count:
        raise BadInput(f"column {name} has {column.null_count} empty rows")
    values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    rows: NDArray[Any] = np.array(values.to_numpy(zero_copy_only=False)).reshape(len(table), -1)
    return rows


def read_episodes(folder: Path) -> Iterator[Episode]:
    """Reads a dataset, one episode in memory at a time.

    Raises:
        BadInput: The folder is incomplete or damaged.
    """
    reader = DatasetReader(folder)
    for record in reader.records:
        yield reader.episode(record)
