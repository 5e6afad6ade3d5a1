"""LeRobot datasets as people have them (v2.0, v2.1, v3.0): which episodes there are and where their parts lie.

Everything here is input from outside. Nothing in it is trusted: paths stay inside the dataset's folder, episodes are
looked up by the numbers in the tables and not by the offsets in the metadata, and what is missing or contradicts itself
is a remark or `BadInput`, never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.episodes.lerobot import layout as layout
from posa_vla.episodes.lerobot.posa_meta import PosaEpisode, PosaMeta, read_posa
from posa_vla.episodes.outside_files import (
    DAMAGED,
    MALFORMED,
    file_inside,
    files_below,
    inside_json,
    json_lines,
    read_table,
    text_of,
)
from posa_vla.errors import BadInput
from posa_vla.files import safe_join

_V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_ARROW = {"float": "float32", "double": "float64"}
# More episodes than any dataset has: a number beyond it is damage, not a place.
_MOST = 10**8


@dataclass(frozen=True)
class Stretch:
    """An episode's video by the metadata: file relative to the dataset, start (s), and end (s) or None if not said."""

    path: str
    start: float
    end: float | None


@dataclass(frozen=True)
class SourceEpisode:
    """Where one episode lies; no row or frame of it has been read.

    Attributes:
        number: Its number in the dataset.
        length: Frames that the metadata claims, or None.
        instruction: As the metadata has it; empty where it is silent.
        table: Parquet file relative to the dataset, or None where the metadata names none.
        videos: Video feature -> its stretch, or None where the metadata names none.
        tasks: How many instructions the metadata gives it.
        recorded: What `meta/posa.json` says of it, where it was exported from here.
    """

    number: int
    length: int | None
    instruction: str
    table: str | None
    videos: dict[str, Stretch | None]
    tasks: int = 1
    recorded: PosaEpisode | None = None


@dataclass
class SourceDataset:
    """An opened dataset.

    Attributes:
        folder: Folder of the dataset.
        version: `codebase_version` of its info.json.
        fps: Frames per second.
        robot: `robot_type`, or the folder's name.
        features: Feature -> {dtype, shape, names} and, where declared, info; without the index columns.
        remarks: (rule, value) for the whole dataset: what its metadata gets wrong.
        posa: `meta/posa.json`, where the dataset was exported from here and says so of every episode.
    """

    folder: Path
    version: str
    fps: float
    robot: str
    features: dict[str, dict[str, Any]]
    remarks: list[tuple[str, str]]
    posa: PosaMeta | None
    _info: dict[str, Any]
    _tasks: dict[int, str]
    _rows: dict[int, dict[str, Any]]
    _found: dict[str, list[str]] = field(default_factory=dict)

    def cameras(self) -> list[str]:
        """Features that are images or video."""
        return [name for name, feature in self.features.items() if feature["dtype"] in {"image", "video"}]

    def videos(self) -> list[str]:
        """Features that lie in video files."""
        return [name for name, feature in self.features.items() if feature["dtype"] == "video"]

    def task(self, index: int) -> str:
        """Instruction of a task's number; empty where the dataset does not say."""
        return self._tasks.get(index, "")

    def episodes(self) -> Iterator[SourceEpisode]:
        """All episodes that the metadata or the files name, by number."""
        for number in sorted(self._rows):
            row = self._rows[number]
            tasks, length = row.get("tasks"), row.get("length")
            tasks = [text_of(task) for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
            yield SourceEpisode(
                number=number,
                length=length if isinstance(length, int) else None,
                instruction=tasks[0] if tasks else "",
                table=self._table(number, row),
                videos={key: self._stretch(key, number, row) for key in self.videos()},
                tasks=max(len(tasks), 1),
                recorded=self.posa.episodes[number] if self.posa is not None else None,
            )

    def _table(self, number: int, row: dict[str, Any]) -> str | None:
        if self.version.startswith("v2"):
            pattern = str(self._info.get("data_path") or _V2_DATA)
            return self._existing(layout.fill_path(pattern, **self._numbers(number)), "")
        pattern = str(self._info.get("data_path") or layout.DATA_PATH)
        try:
            chunk, file = (_file_number(row.get(f"data/{name}_index", 0)) for name in ("chunk", "file"))
        except MALFORMED:
            return None
        return layout.fill_path(pattern, chunk_index=chunk, file_index=file)

    def _numbers(self, number: int) -> dict[str, int]:
        size = self._info.get("chunks_size")
        chunk = number // size if isinstance(size, int) and size > 0 else 0
        return {"episode_chunk": chunk, "episode_index": number}

    def _stretch(self, key: str, number: int, row: dict[str, Any]) -> Stretch | None:
        if self.version.startswith("v2"):
            pattern = str(self._info.get("video_path") or _V2_VIDEO)
            path = layout.fill_path(pattern, video_key=key, **self._numbers(number))
            return Stretch(self._existing(path, key), 0.0, None)
        try:
            path = layout.fill_path(
                str(self._info.get("video_path") or layout.VIDEO_PATH),
                video_key=key,
                chunk_index=_file_number(row[f"videos/{key}/chunk_index"]),
                file_index=_file_number(row[f"videos/{key}/file_index"]),
            )
            start = float(row[f"videos/{key}/from_timestamp"])
        except MALFORMED:
            return None
        try:
            end = float(row[f"videos/{key}/to_timestamp"])
        except MALFORMED:
            end = math.nan  # LeRobot does not read it
        return Stretch(path, start, end if start < end < 10**7 else None) if 0 <= start < 10**7 else None

    def _existing(self, path: str, key: str) -> str:
        """The path itself where there is such a file, else the one file of that name that lies elsewhere.

        Folders are moved about by hand, and info.json is not; a file of a camera must lie in a folder of its name.
        """
        try:
            if safe_join(self.folder, path).is_file():
                return path
        except BadInput:
            pass  # it leads out of the folder: whoever opens it is told so, if no other file is found
        if not self._found:
            for place in sorted(self.folder.rglob("*.*")):
                if place.suffix in {".mp4", ".parquet"} and place.is_file():
                    self._found.setdefault(place.name, []).append(place.relative_to(self.folder).as_posix())
        names = {key, key.removeprefix(layout.IMAGES)} if key else set()
        others = [o for o in self._found.get(Path(path).name, []) if not key or names & set(Path(o).parts)]
        if len(others) != 1:
            return path
        remark = ("layout", f"{path} does not exist: {others[0]} was taken; info.json and the folders disagree")
        if not any(rule == "layout" for rule, _ in self.remarks):
            self.remarks.append(remark)
        return others[0]


def _file_number(value: Any) -> int:
    """Number of a chunk or file.

    Raises:
        ValueError: It is none.
    """
    number = int(value)
    if not 0 <= number < _MOST:
        raise ValueError(f"{number} is no number of a file")
    return number


def _tasks(folder: Path) -> dict[int, str]:
    rows = json_lines(folder, "meta/tasks.jsonl")
    if not rows and (folder / layout.TASKS_PATH).is_file():
        rows = read_table(file_inside(folder, layout.TASKS_PATH)).to_pylist()
    tasks = {}
    for row in rows:
        text = next((row[name] for name in ("task", "__index_level_0__") if isinstance(row.get(name), str)), None)
        if text is not None and isinstance(row.get("task_index"), int):
            tasks[row["task_index"]] = text_of(text)
    return tasks


def _rows(folder: Path, version: str) -> dict[int, dict[str, Any]]:
    """What the metadata says of each episode, by number; the files themselves where it says nothing."""
    if version.startswith("v2"):
        listed = json_lines(folder, "meta/episodes.jsonl")
        for file in files_below(folder, "data", "episode_*.parquet"):
            number = re.fullmatch(r"episode_(\d{1,8})", file.stem)
            if number:
                listed.append({"episode_index": int(number[1])})
    else:
        listed = []
        for file in files_below(folder, "meta/episodes", "*.parquet"):
            table = read_table(file)
            listed += table.select([n for n in table.column_names if not n.startswith("stats/")]).to_pylist()
        # Episodes that meta/ forgets are in the tables all the same.
        listed += _numbers_in_tables(folder, needed=not listed)
    rows: dict[int, dict[str, Any]] = {}
    for row in listed:
        number = row.get("episode_index")
        if isinstance(number, int) and 0 <= number < _MOST:
            rows.setdefault(number, row)
    return rows


def _numbers_in_tables(folder: Path, needed: bool) -> list[dict[str, Any]]:
    """Episodes by the data tables; one that cannot be read is passed over, unless nothing else names episodes."""
    listed = []
    pattern = re.compile(r"data/chunk-(\d{1,8})/file-(\d{1,8})\.parquet")
    for file in files_below(folder, "data", "*.parquet"):
        place = pattern.fullmatch(file.relative_to(folder).as_posix())
        if place is None:
            continue
        try:
            numbers = read_table(file, ["episode_index"])["episode_index"].unique().to_pylist()
        except (BadInput, pa.ArrowException) as error:
            if needed:
                raise BadInput(f"{file} does not say of which episodes it is: {error}") from None
            continue
        where = {"data/chunk_index": int(place[1]), "data/file_index": int(place[2])}
        listed += [{"episode_index": number, **where} for number in numbers]
    return listed


def _feature(declared: Any) -> dict[str, Any] | None:
    if not isinstance(declared, dict) or not isinstance(declared.get("dtype"), str):
        return None
    shape = declared.get("shape")
    whole = isinstance(shape, list | tuple) and all(isinstance(n, int) and 0 < n < 10**6 for n in shape)
    info = declared.get("info") or declared.get("video_info")
    return {
        "dtype": declared["dtype"],
        "shape": list(shape or []) if whole else [],
        "names": declared.get("names"),
        "info": info if isinstance(info, dict) else {},
    }


def _features(folder: Path, info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Features as declared, or, where info.json is silent, as a data table and the video folders show them."""
    declared = info.get("features")
    features = {str(k): _feature(v) for k, v in declared.items()} if isinstance(declared, dict) else {}
    if not features:
        tables = files_below(folder, "data", "*.parquet")
        try:
            schema = pq.read_schema(tables[0]) if tables else pa.schema([])
        except DAMAGED as error:
            raise BadInput(f"{tables[0]} is damaged ({error}), and info.json has no features") from None
        for column in schema:
            kind = "image" if pa.types.is_struct(column.type) or pa.types.is_binary(column.type) else ""
            vector = hasattr(column.type, "value_type")
            number = str(column.type.value_type if vector else column.type)
            features[column.name] = {"dtype": kind or _ARROW.get(number, number), "shape": [], "names": None}
        for file in files_below(folder, "videos", "*.mp4"):
            for part in file.relative_to(folder).parts:
                if part.startswith(layout.IMAGES):
                    features[part] = {"dtype": "video", "shape": [], "names": None}
    return {k: f for k, f in features.items() if f is not None and k not in layout.INDEX_COLUMNS}


def _fps(info: dict[str, Any], folder: Path) -> float:
    fps = info.get("fps")
    if isinstance(fps, int | float) and 0 < fps <= 10_000:
        return float(fps)
    raise BadInput(f'{folder / layout.INFO_PATH}: fps is {fps!r}, expected frames per second, for example "fps": 30')


def open_source(folder: Path) -> SourceDataset:
    """Opens a LeRobot dataset v2.0, v2.1 or v3.0 of anybody's making; only its metadata is read.

    Raises:
        BadInput: The folder is no LeRobot dataset, or its metadata cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder, expected a LeRobot dataset")
    try:
        info = inside_json(folder, layout.INFO_PATH)
    except BadInput as error:
        raise BadInput(f"{folder} is no LeRobot dataset: {error}") from None
    if not isinstance(info, dict):
        raise BadInput(f"{folder / layout.INFO_PATH}: expected an object, got {type(info).__name__}")
    version = str(info.get("codebase_version", ""))
    if not version.startswith(("v2.", "v3.")):
        raise BadInput(f"{folder} is a dataset of version {version!r}, expected v2.0, v2.1 or v3.0")
    try:
        rows = _rows(folder, version)
        features = _features(folder, info)
        tasks = _tasks(folder)
    except MALFORMED as error:
        raise BadInput(f"{folder}: metadata is not readable ({type(error).__name__}: {error})") from None
    remarks = []
    if not rows:
        raise BadInput(f"{folder} names no episode, neither in meta/ nor by its data files")
    if info.get("total_episodes") != len(rows):
        remarks.append(("counts", f"info.json counts {info.get('total_episodes')!r} episodes, there are {len(rows)}"))
    posa = None
    if (folder / layout.POSA_PATH).exists():
        try:
            posa = read_posa(folder, sorted(rows))
        except BadInput as error:
            text = str(error).replace(f"{folder}/", "")[:400]
            remarks.append(("posa", f"{text}; it was not used"))
    robot = info.get("robot_type")
    robot = robot if isinstance(robot, str) and robot.strip() else folder.resolve().name
    return SourceDataset(folder, version, _fps(info, folder), robot, features, remarks, posa, info, tasks, rows)
