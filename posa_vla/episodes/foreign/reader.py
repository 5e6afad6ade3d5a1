"""One episode of a foreign dataset, read into the Episode contract."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from posa_vla.episodes.calibration import Calibration, calibrate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode, NotFinite, Source
from posa_vla.episodes.foreign.dataset import SourceDataset, SourceEpisode
from posa_vla.episodes.foreign.mapping import FeatureMap
from posa_vla.episodes.foreign.remarks import length_remarks, source_remarks
from posa_vla.episodes.foreign.source_videos import SourceVideos
from posa_vla.episodes.foreign.times import recorded_times
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.lerobot.layout import WIDER
from posa_vla.episodes.media.images import Images
from posa_vla.episodes.media.stills import StoredStills, still_size
from posa_vla.episodes.outside_files import DAMAGED, MALFORMED, file_inside, read_table
from posa_vla.errors import BadInput

# (rule, frame, value): what a dataset says otherwise than its files, or numbers otherwise than they follow each other.
Remark = tuple[str, int | None, str]
_SUCCESS = ("next.success", "success", "observation.success")


class BadEpisode(BadInput):
    """An episode that cannot be read; `rule` says which rule of the validation it breaks."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class _Place:
    """Rows of one episode in a table."""

    rows: range
    groups: list[int]


class SourceReader:
    """Reads a dataset's episodes; only the one that is asked for is in memory, its images not even then."""

    def __init__(
        self,
        source: SourceDataset,
        features: FeatureMap,
        embodiment: Embodiment,
        *,
        calibration: Calibration | None = None,
        kinematics: ForwardKinematics | None = None,
        origin: Source = "teleop",
    ) -> None:
        """Sets up what all episodes share; `fit.require_fit` looks whether any of them can fit.

        Args:
            source: The dataset.
            features: What its features are.
            embodiment: Whose episodes these are.
            calibration: Of its cameras; what is not in it is not calibrated.
            kinematics: Computes the end-effector's pose where it was not recorded.
            origin: Where the episodes come from.

        Raises:
            BadInput: The dataset runs at another rate.
        """
        if abs(embodiment.control_hz - source.fps) > 1e-6:
            raise BadInput(
                f"{source.folder} has {source.fps:g} frames/s, embodiment {embodiment.id} is controlled at "
                f"{embodiment.control_hz:g} Hz: declare control_hz: {source.fps:g}, or resample the dataset"
            )
        self.source, self.features, self.embodiment = source, features, embodiment
        self.calibration, self._kinematics, self._origin = calibration, kinematics, origin
        # Episodes that were recorded here are known by their pixels; video always is by its bytes.
        posa = source.posa
        self._by_pixels = posa is not None and posa.hashed == "pixels" and not source.videos()
        # Episodes come in order: one table's places are enough.
        self._places = functools.lru_cache(2)(self._read_places)
        self._videos = SourceVideos(source, self._rows)

    def _read_places(self, table: str) -> dict[int, _Place | None]:
        """Episode -> its rows, by the column that numbers them; a table without it is one episode's, number -1.

        None stands for an episode whose rows are not in one piece.
        """
        try:
            path = file_inside(self.source.folder, table)
        except BadInput as error:
            raise BadEpisode("table", str(error)) from None
        try:
            with pq.ParquetFile(path) as file:
                lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                names = file.schema_arrow.names
        except FileNotFoundError:
            raise BadEpisode("table", f"{path} does not exist") from None
        except DAMAGED as error:
            raise BadEpisode("table", f"{path} is damaged ({str(error)[:200]})") from None
        total = sum(lengths)
        if "episode_index" not in names:
            return {-1: _Place(range(total), list(range(len(lengths))))}
        numbers = read_table(path, ["episode_index"])["episode_index"].to_numpy()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [total]])
        places: dict[int, _Place | None] = {}
        split = set()
        for first, stop in itertools.pairwise(cuts):
            if first == stop:
                continue
            number = int(numbers[first])
            if number in places:
                split.add(number)
            begin = int(np.searchsorted(starts, first, side="right")) - 1
            end = int(np.searchsorted(starts, stop, side="left"))
            offset = int(starts[begin])
            places[number] = _Place(range(int(first) - offset, int(stop) - offset), list(range(begin, end)))
        return places | dict.fromkeys(split)

    def _place(self, where: SourceEpisode) -> tuple[Path, _Place]:
        """Where an episode's rows are: the table, and which of its rows."""
        if where.table is None:
            raise BadEpisode("table", f"the metadata names no table of episode {where.number}")
        places = self._places(where.table)
        place = places.get(where.number, places.get(-1))
        if place is None and where.number in places:
            raise BadEpisode("table", f"{where.table}: the rows of episode {where.number} are not in one piece")
        if place is None or not len(place.rows):
            raise BadEpisode("table", f"{where.table} has no row of episode {where.number}")
        return file_inside(self.source.folder, where.table), place

    def _rows(self, where: SourceEpisode) -> int | None:
        try:
            return len(self._place(where)[1].rows)
        except (BadInput, *MALFORMED):
            return None

    def table(self, where: SourceEpisode, *, images: bool = False) -> pa.Table:
        """An episode's rows as they lie in the dataset, without the image columns unless they are asked for.

        Raises:
            BadEpisode: The table is missing or damaged, or has no such rows.
        """
        path, place = self._place(where)
        try:
            with pq.ParquetFile(path) as file:
                columns = [n for n in file.schema_arrow.names if images or n not in self.source.cameras()]
                groups = file.read_row_groups(place.groups, columns=columns)
        except DAMAGED as error:
            raise BadEpisode("table", f"{path} is damaged ({str(error)[:200]})") from None
        return groups.slice(place.rows.start, len(place.rows))

    def episode(self, where: SourceEpisode) -> Episode:
        """Reads one episode; images stay in their files until they are looked at.

        Raises:
            BadEpisode: A part is missing or damaged, or parts do not fit each other or the embodiment.
        """
        return self.read(where)[0]

    def read(self, where: SourceEpisode) -> tuple[Episode, list[Remark]]:
        """An episode, and remarks where the dataset says something else of the episode than the store will.

        Raises:
            BadEpisode: See `episode`.
        """
        table = self.table(where)
        try:
            times = recorded_times(table, self.source.fps, exact=where.recorded is not None)
            episode = self._episode(where, table, times.since)
            episode.check()
        except BadEpisode:
            raise
        except BadInput as error:
            raise BadEpisode("finite" if isinstance(error, NotFinite) else "table", str(error)) from None
        remarks = [*source_remarks(table), *times.remarks, *length_remarks(where, episode)]
        videos = self._videos.remarks(where, list(self.features.cameras.values()))
        return episode, [*remarks, *(("metadata", None, note) for note in videos)]

    def _episode(self, where: SourceEpisode, table: pa.Table, times: NDArray[np.float64] | None) -> Episode:
        parts, recorded = self.features.parts, where.recorded
        state = _vector(table, parts["state"], np.float32)
        pose = _vector(table, parts["end_effector"], np.float64) if "end_effector" in parts else None
        if pose is not None:
            _require_pose(parts["end_effector"], pose)
        if pose is None and self._kinematics is not None:
            pose = self._kinematics.poses(state)
        gripper = _vector(table, parts["gripper"], np.float32) if "gripper" in parts else None
        if gripper is not None and gripper.shape[1] != 1:
            raise BadEpisode("table", f"{parts['gripper']} has {gripper.shape[1]} channels, expected one opening")
        episode = Episode(
            embodiment=self.embodiment.id,
            instruction=self._instruction(where, table),
            source=self._origin if recorded is None else recorded.source,
            success=_success(table) if recorded is None else recorded.success,
            fps=self.source.fps,
            cameras={role: self._camera(role, where, table, pose) for role in self.embodiment.cameras},
            state=state,
            action=_vector(table, parts["action"], np.float32),
            end_effector=pose,
            gripper=None if gripper is None else gripper[:, 0],
            scene={} if recorded is None else recorded.scene,
            timestamps=times,
            extra={name: self._extra(table, name) for name in self.features.extra if name in table.column_names},
        )
        for name, rows, channels in (
            (parts["state"], episode.state, self.embodiment.state),
            (parts["action"], episode.action, self.embodiment.action),
        ):
            if rows.shape[1] != len(channels):
                raise BadEpisode(
                    "table",
                    f"{name} has {rows.shape[1]} channels, embodiment {self.embodiment.id} declares {len(channels)}",
                )
        return episode

    def _instruction(self, where: SourceEpisode, table: pa.Table) -> str:
        if where.instruction or "task_index" not in table.column_names:
            return where.instruction
        index = table["task_index"][0].as_py()
        return self.source.task(index) if isinstance(index, int) else ""

    def _extra(self, table: pa.Table, name: str) -> NDArray[Any]:
        dtype = self.source.features[name]["dtype"]
        return _vector(table, name, np.dtype(WIDER.get(dtype, dtype)))

    def _camera(
        self, role: str, where: SourceEpisode, table: pa.Table, end_effector: NDArray[np.float64] | None
    ) -> CameraTrack:
        images = self.images(self.features.cameras[role], where, len(table))
        camera = self.calibration.cameras.get(role) if self.calibration is not None else None
        if camera is not None:
            return calibrate(images, camera, end_effector)
        names = {part: n for part, n in self.features.calibration[role].items() if n in table.column_names}
        tracks = {part: _vector(table, name, np.float64) for part, name in names.items()}
        if "pose" in tracks:
            _require_pose(names["pose"], tracks["pose"])
        return CameraTrack(images, tracks.get("intrinsics"), tracks.get("pose"))

    def vector(self, table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
        """(T, channels) of a column of numbers or of lists, nested or not, all rows alike.

        Raises:
            BadEpisode: There is no such column, a row is empty, rows differ in length, or it holds no numbers.
        """
        return _vector(table, name, dtype)

    def images(self, feature: str, where: SourceEpisode, frames: int) -> Images:
        """The pictures of one camera of an episode, counted and not decoded.

        Raises:
            BadEpisode: Pictures are missing or damaged, or there are not as many as frames.
        """
        folder = self.source.folder
        try:
            if self.source.features[feature]["dtype"] == "video":
                video = self._videos.video(feature, where)
                if len(video) != frames:
                    raise BadInput(f"{video.path} has {len(video)} frames of the episode, its table {frames}")
                return video
            path, place = self._place(where)
            unsized = StoredStills(folder, path, feature, place.rows, (1, 1), place.groups)
            size = still_size(next(unsized.payloads()))
            stills = StoredStills(folder, path, feature, place.rows, size, place.groups)
            return stills.pixels() if self._by_pixels else stills
        except BadEpisode:
            raise
        except BadInput as error:
            raise BadEpisode("images", str(error)) from None


def _vector(table: pa.Table, name: str, dtype: Any) -> NDArray[Any]:
    """(T, channels) of a column of numbers or of lists, nested or not, all rows alike.

    Raises:
        BadEpisode: There is no such column, a row is empty, or rows differ in length.
    """
    if name not in table.column_names:
        raise BadEpisode("table", f"column {name} is not in the table, which has {', '.join(table.column_names)}")
    column = table[name].combine_chunks()
    try:
        while pa.types.is_nested(column.type):
            if column.null_count:
                break
            column = column.flatten()
        if column.null_count:
            raise BadEpisode("table", f"column {name} has {column.null_count} empty rows")
        kind = column.type
        # Text of digits would become numbers without a word.
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"its values are {kind}, expected numbers")
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype)
        if values.size % len(table) or not values.size:
            raise ValueError(f"{values.size} numbers in {len(table)} rows")
        outer = table[name].type
        if pa.types.is_nested(outer) and not pa.types.is_fixed_size_list(outer):
            widths = pc.list_value_length(table[name]).unique().to_pylist()
            if len(widths) != 1:
                raise ValueError(f"rows have between {min(widths)} and {max(widths)} values")
    except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise BadEpisode("table", f"column {name} is no vector of numbers: {str(error)[:200]}") from None
    # A copy: Arrow's memory goes with the table.
    return np.array(values.reshape(len(table), -1))


def _require_pose(name: str, pose: NDArray[np.float64]) -> None:
    if pose.shape[1] != 7 or not (np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1) <= 0.01).all():
        raise BadEpisode("table", f"{name} is no pose: expected x, y, z (m) and a quaternion of length 1 (w, x, y, z)")


def _success(table: pa.Table) -> bool:
    """Whether any frame says so; a demonstration that does not say was done.

    Raises:
        BadEpisode: A column of that name says neither yes nor no.
    """
    for name in _SUCCESS:
        if name in table.column_names:
            column = table[name].combine_chunks()
            while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
                column = column.flatten()
            values = column.drop_null().to_pylist()
            if not all(isinstance(value, bool | int | float) for value in values):
                raise BadEpisode("table", f"column {name} is {table[name].type}, expected true and false")
            return any(values)
    return True
