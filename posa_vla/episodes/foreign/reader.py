"""One episode of a foreign dataset, read into the Episode contract."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from posa_vla.episodes.calibration import Calibration, calibrate
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode, NotFinite, Source
from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.columns import kept, require_pose, success, vector
from posa_vla.episodes.foreign.dataset import SourceDataset, SourceEpisode
from posa_vla.episodes.foreign.listing import own_number
from posa_vla.episodes.foreign.mapping import FeatureMap
from posa_vla.episodes.foreign.prompts import FrameWords
from posa_vla.episodes.foreign.remarks import SaidOnce, length_remarks, source_remarks, unlabelled_remarks
from posa_vla.episodes.foreign.rows import Place, read_places
from posa_vla.episodes.foreign.source_videos import SourceVideos
from posa_vla.episodes.foreign.times import recorded_times
from posa_vla.episodes.foreign.words import instruction_of, numbers_of_tasks, word_remarks
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.media.images import Images
from posa_vla.episodes.media.stills import StoredStills, still_size
from posa_vla.episodes.outside_files import DAMAGED, MALFORMED, damage, file_inside
from posa_vla.errors import BadInput

# (rule, frame, value): what a dataset says otherwise than its files, or numbers otherwise than they follow each other.
Remark = tuple[str, int | None, str]


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
        resample: bool = False,
    ) -> None:
        """Sets up what all episodes share; `fit.require_fit` looks whether any of them can fit.

        Args:
            source: The dataset.
            features: What its features are.
            embodiment: Whose episodes these are, as it is declared; the dataset may lack some of its cameras.
            calibration: Of its cameras; what is not in it is not calibrated.
            kinematics: Computes the end-effector's pose where it was not recorded.
            origin: Where the episodes come from.
            resample: Whether the dataset may have another rate than the embodiment is controlled at: it is stored as it
                was recorded, and resampled when it is prepared.

        Raises:
            BadInput: The dataset runs at another rate, or its videos cannot be had.
        """
        if abs(embodiment.control_hz - source.fps) > 1e-6 and not resample:
            raise BadInput(
                f"{source.folder} has {source.fps:g} frames/s, embodiment {embodiment.id} is controlled at "
                f"{embodiment.control_hz:g} Hz: declare control_hz: {source.fps:g}, or set "
                "prepare.resample=true"
            )
        source.require_videos(features.cameras.values())
        self.source, self.features, self.declared = source, features, embodiment
        cameras = {role: camera for role, camera in embodiment.cameras.items() if role in features.cameras}
        # What is recorded here, and stored of the robot with it.
        recorded = {"control_hz": source.fps} if resample else {}
        self.embodiment = embodiment.model_copy(update={"cameras": cameras, **recorded})
        self.calibration, self.kinematics = calibration, kinematics
        self._origin, self._resample = origin, resample
        # Episodes that were recorded here are known by their pixels; video always is by its bytes.
        posa = source.posa
        self._by_pixels = posa is not None and posa.hashed == "pixels" and not source.videos()
        # Episodes come in order: one table's places are enough.
        self._places = functools.lru_cache(2)(functools.partial(read_places, source.folder))
        self._videos = SourceVideos(source, self._rows)
        self._said = SaidOnce()
        self._words = FrameWords(source.folder, source.tasks, self._said, exported=posa is not None)

    def afresh(self) -> SourceReader:
        """A reader of the same dataset that has said nothing yet: who only looks takes no remark from who ingests."""
        return SourceReader(
            self.source,
            self.features,
            self.declared,
            calibration=self.calibration,
            kinematics=self.kinematics,
            origin=self._origin,
            resample=self._resample,
        )

    @property
    def knows_poses(self) -> bool:
        """Whether the end-effector's pose is recorded, or follows from the joints."""
        return self.kinematics is not None or "end_effector" in self.features.parts

    def unfit_joints(self, state: NDArray[np.float32]) -> str:
        """Why recorded joints (T, S) are not those of the declared chain, in words; empty where they may be."""
        return "" if self.kinematics is None else self.kinematics.unfit(state)

    def _place(self, where: SourceEpisode) -> tuple[Path, Place]:
        """Where an episode's rows are: the table, and which of its rows."""
        if where.table is None:
            raise BadEpisode(
                "table", f"neither the metadata nor the tables say which table episode {where.number} is in"
            )
        places = self._places(where.table)
        place = places.get(where.number, places.get(-1))
        if place is None and where.number in places:
            raise BadEpisode("table", f"{where.table}: the rows of episode {where.number} are not in one piece")
        if place is None and len(places) == 1 and own_number(where.table) == where.number:
            (place,) = places.values()
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
        except DAMAGED:
            raise BadEpisode("table", f"{path} {damage(path)}") from None
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
        by_frame = episode.prompts is not None
        words = word_remarks(where.words, numbers_of_tasks(table), self.source.tasks, by_frame=by_frame)
        for kind, value in self._videos.habits(where, self.features.cameras.values()):
            self._said.note(kind, value)
        return episode, [
            *source_remarks(table, where.number),
            *times.remarks,
            *length_remarks(where, episode),
            *words,
            *(unlabelled_remarks(table) if where.recorded is None else ()),
            *(("metadata", None, value) for value in self._said.take()),
        ]

    def _episode(self, where: SourceEpisode, table: pa.Table, times: NDArray[np.float64] | None) -> Episode:
        parts, recorded = self.features.parts, where.recorded
        state = self.part(table, "state", np.float32)
        pose = self.part(table, "end_effector", np.float64) if "end_effector" in parts else None
        if pose is not None:
            pose = self._by_end(pose)
            require_pose(" and ".join(parts["end_effector"]), pose)
        if pose is None and self.kinematics is not None:
            pose = self.kinematics.poses(state)
        gripper = self.part(table, "gripper", np.float32) if "gripper" in parts else None
        ends = len(self.embodiment.end_effectors) or 1
        if gripper is not None and gripper.shape[1] != ends:
            expected = "one opening" if ends == 1 else f"{ends} openings"
            raise BadEpisode("table", f"{parts['gripper'][0]} has {gripper.shape[1]} channels, expected {expected}")
        instruction, prompts = self._words.of(table, self._instruction(where, table))
        episode = Episode(
            embodiment=self.embodiment.id,
            instruction=instruction,
            source=self._origin if recorded is None else recorded.source,
            success=bool(success(table)) if recorded is None else recorded.success,
            fps=self.source.fps,
            cameras={role: self._camera(role, where, table, pose) for role in self.embodiment.cameras},
            state=state,
            action=self.part(table, "action", np.float32),
            end_effector=pose,
            gripper=None if gripper is None else self._by_end(gripper)[..., 0],
            scene={} if recorded is None else recorded.scene,
            timestamps=times,
            extra=self._extra(table),
            prompts=prompts,
        )
        for part, rows, channels in (
            ("state", episode.state, self.embodiment.state),
            ("action", episode.action, self.embodiment.action),
        ):
            if rows.shape[1] != len(channels):
                raise BadEpisode(
                    "table",
                    f"{' and '.join(parts[part])} has {rows.shape[1]} channels, embodiment {self.embodiment.id} "
                    f"declares {len(channels)}",
                )
        return episode

    def _by_end(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows (T, width) as they are of one end effector, of E of them (T, E, width / E) where that is whole."""
        ends = len(self.embodiment.end_effectors)
        return rows.reshape(len(rows), ends, -1) if ends and rows.shape[1] % ends == 0 else rows

    def _instruction(self, where: SourceEpisode, table: pa.Table) -> str:
        if where.recorded is not None and where.recorded.instruction is not None:
            return where.recorded.instruction
        return instruction_of(where.words, numbers_of_tasks(table), self.source.tasks)

    def _extra(self, table: pa.Table) -> dict[str, NDArray[Any]]:
        """What was recorded besides; a column that cannot be kept costs no episode."""
        extra = {}
        for name in self.features.extra:
            if name in table.column_names:
                try:
                    extra[name] = kept(table, name, self.source.features[name]["dtype"])
                except BadEpisode as error:
                    self._said.note(f"column {name}", f"{error}; it was left out")
        return extra

    def _camera(
        self, role: str, where: SourceEpisode, table: pa.Table, end_effector: NDArray[np.float64] | None
    ) -> CameraTrack:
        images = self.images(self.features.cameras[role], where, len(table))
        camera = self.calibration.cameras.get(role) if self.calibration is not None else None
        if camera is not None:
            return calibrate(images, camera.at(where.number), end_effector, self.embodiment.end_effectors)
        names = {part: n for part, n in self.features.calibration[role].items() if n in table.column_names}
        tracks = {part: vector(table, name, np.float64) for part, name in names.items()}
        if "pose" in tracks:
            require_pose(names["pose"], tracks["pose"])
        if "end_effector_pixel" in tracks:
            tracks["end_effector_pixel"] = self._by_end(tracks["end_effector_pixel"])
        return CameraTrack(images, **tracks)

    def part(self, table: pa.Table, part: str, dtype: Any) -> NDArray[Any]:
        """(T, channels) of a part of the contract: the channels of its features side by side.

        Raises:
            BadEpisode: As `vector`.
        """
        columns = [vector(table, name, dtype) for name in self.features.parts[part]]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

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
