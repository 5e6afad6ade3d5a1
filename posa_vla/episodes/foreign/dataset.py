"""LeRobot datasets as people have them (v2.0, v2.1, v3.0): which episodes there are and where their parts lie.

Everything here is input from outside. Nothing in it is trusted: paths stay inside the dataset's folder, episodes are
looked up by the numbers in the tables and not by the offsets in the metadata, and what is missing or contradicts itself
is a remark or `BadInput`, never a guess.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posa_vla.episodes.foreign.features import features_of
from posa_vla.episodes.foreign.listing import MOST, Listing, read_listing, require_fetched
from posa_vla.episodes.foreign.places import V2_DATA, V2_VIDEO, Places
from posa_vla.episodes.foreign.words import read_tasks, words_of
from posa_vla.episodes.lerobot import layout
from posa_vla.episodes.lerobot.posa_meta import PosaEpisode, PosaMeta, read_posa
from posa_vla.episodes.outside_files import MALFORMED, inside_json, text_of, whole
from posa_vla.errors import BadInput

_log = logging.getLogger(__name__)


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
        words: Instructions that the list of episodes gives it; its frames know better (`words.py`).
        table: Parquet file relative to the dataset, or None where it is not known which.
        videos: Video feature -> its stretch, or None where it is not known.
        recorded: What `meta/posa.json` says of it, where it was exported from here.
    """

    number: int
    length: int | None
    words: tuple[str, ...]
    table: str | None
    videos: dict[str, Stretch | None]
    recorded: PosaEpisode | None = None

    @property
    def instruction(self) -> str:
        """The first of its words; empty where there are none."""
        return self.words[0] if self.words else ""


@dataclass
class SourceDataset:
    """An opened dataset.

    Attributes:
        folder: Folder of the dataset.
        version: `codebase_version` of its info.json.
        fps: Frames per second.
        robot: `robot_type`; empty where the dataset does not say.
        features: Feature -> {dtype, shape, names} and, where declared, info; without the index columns.
        remarks: (rule, value) for the whole dataset: what its metadata gets wrong.
        posa: `meta/posa.json`, where the dataset was exported from here and says so of every episode.
        tasks: Number -> words of the tasks that it lists.
    """

    folder: Path
    version: str
    fps: float
    robot: str
    features: dict[str, dict[str, Any]]
    remarks: list[tuple[str, str]]
    posa: PosaMeta | None
    tasks: dict[int, str]
    _info: dict[str, Any]
    _listing: Listing
    _places: Places
    # What is odd of single files, by its kind: the first of each in words, and how many there are.
    _odd: dict[str, tuple[str, int]] = field(default_factory=dict)
    _episodes: list[SourceEpisode] | None = None

    def cameras(self) -> list[str]:
        """Features that are images or video."""
        return [name for name, feature in self.features.items() if feature["dtype"] in {"image", "video"}]

    def videos(self) -> list[str]:
        """Features that lie in video files."""
        return [name for name, feature in self.features.items() if feature["dtype"] == "video"]

    def episodes(self) -> list[SourceEpisode]:
        """All episodes that the metadata or the files name, by number; what they get wrong is in `remarks` then."""
        if self._episodes is None:
            self._episodes = [self._episode(number, row) for number, row in sorted(self._listing.rows.items())]
            for first, count in self._odd.values():
                self.remarks.append(("layout", first + (f" ({count} such)" if count > 1 else "")))
        return self._episodes

    def require_videos(self, cameras: Iterable[str]) -> None:
        """Stops before anything comes in where the videos of cameras cannot be had from any episode.

        Raises:
            BadInput: It is not known where they lie, or they are only pointers to what was not fetched.
        """
        files = set()
        for key in set(self.videos()) & set(cameras):
            found = {stretch.path for episode in self.episodes() if (stretch := episode.videos[key])}
            if not found:
                looks = "v2.1" if self._listing.lies_like == "v2" else "v3.0"
                raise BadInput(
                    f"{self.folder}: nothing says which video files of {key} an episode is in, and from when on. Its "
                    f"version is {self.version or 'not stated'}, its files lie as in {looks}: expected "
                    f"videos/{key}/file_index and from_timestamp in meta/episodes/*.parquet, or files "
                    "episode_000000.mp4 and so on. Convert the dataset again"
                )
            files |= found
        inside = [place for path in sorted(files) if (place := self.folder / path).is_relative_to(self.folder)]
        require_fetched(self.folder, inside)

    def _episode(self, number: int, row: dict[str, Any]) -> SourceEpisode:
        return SourceEpisode(
            number=number,
            length=whole(row.get("length")),
            words=tuple(words_of(row.get("tasks")) or words_of(row.get("task"))),
            table=self._table(number, row),
            videos={key: self._stretch(key, number, row) for key in self.videos()},
            recorded=self.posa.episodes[number] if self.posa is not None else None,
        )

    def _odd_one(self, kind: str, remark: str) -> None:
        """Notes what is odd of one file: the first of a kind is said, the others are counted."""
        first, count = self._odd.get(kind, (remark, 0))
        self._odd[kind] = first, count + 1

    def _table(self, number: int, row: dict[str, Any]) -> str | None:
        """The table that has rows of an episode; where none is known, the one that the metadata name."""
        tables = self._listing.tables.get(number, [])
        named, found = None, False
        if "data/file_index" in row:
            chunk, file = (whole(row.get(f"data/{name}_index", 0)) for name in ("chunk", "file"))
            if chunk is not None and file is not None and 0 <= chunk < MOST and 0 <= file < MOST:
                values: dict[str, int | str] = {"chunk_index": chunk, "file_index": file}
                named, _ = self._places.filled("data_path", layout.DATA_PATH, values)
        elif self._listing.lies_like == "v2":
            named, telling = self._places.filled("data_path", V2_DATA, self._numbers(number))
            if not tables:
                place, found = self._places.find(named, telling[-1:])
                tables = [place] if found else []
        if named in tables or not tables:
            return named
        if len(tables) > 1:
            return None
        if named is not None:
            self._odd_one(
                "table", f"{named} has no rows of episode {number}, as the metadata say: {tables[0]} has them"
            )
        return tables[0]

    def _numbers(self, number: int) -> dict[str, int | str]:
        size = whole(self._info.get("chunks_size"))
        chunk = number // size if size is not None and size > 0 else 0
        return {"episode_chunk": chunk, "chunk_index": chunk, "episode_index": number}

    def _stretch(self, key: str, number: int, row: dict[str, Any]) -> Stretch | None:
        """Where a camera's video of an episode lies: in a file of many, as the metadata say, or in one of its own."""
        shared: Stretch | None = None
        if f"videos/{key}/file_index" in row:
            chunk, file = (whole(row.get(f"videos/{key}/{name}_index")) for name in ("chunk", "file"))
            start, end = (_seconds(row.get(f"videos/{key}/{name}_timestamp")) for name in ("from", "to"))
            if chunk is not None and file is not None and 0 <= chunk < MOST and 0 <= file < MOST:
                numbers: dict[str, int | str] = {"video_key": key, "chunk_index": chunk, "file_index": file}
                place, found = self._video(*self._places.filled("video_path", layout.VIDEO_PATH, numbers), key)
                if start is not None:
                    # LeRobot reads the start alone.
                    shared = Stretch(place, start, end if end is not None and end > start else None)
                if found:
                    return shared
        path, telling = self._places.filled("video_path", V2_VIDEO, {"video_key": key, **self._numbers(number)})
        place, found = self._video(path, telling[-1:], key)
        if shared is not None and found:
            self._odd_one("own video", f"{shared.path} does not exist: {place} is the episode's own, and was taken")
        if found or (shared is None and self._listing.lies_like == "v2"):
            return Stretch(place, 0.0, None)
        return shared

    def _video(self, path: str, telling: tuple[str, ...], key: str) -> tuple[str, bool]:
        place, found = self._places.find(path, telling, key)
        if place != path:
            self._odd_one("video", f"{path} does not exist: {place} was taken; info.json and the folders disagree")
        return place, found


def _seconds(value: Any) -> float | None:
    """A time of metadata (s), or None where it is none."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**7:
        return None
    return float(value)


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
    version = _version(info)
    try:
        listing = read_listing(folder, version)
        tables = (path for paths in listing.tables.values() for path in paths)
        features, pictures = features_of(folder, info, tables)
        tasks, remarks = read_tasks(folder, version[:2] or listing.lies_like)
    except MALFORMED:
        _log.debug("%s", folder, exc_info=True)
        raise BadInput(f"{folder}: its metadata hold values of other types than LeRobot writes there") from None
    rows = listing.rows
    if not rows:
        raise BadInput(f"{folder} names no episode, neither in meta/ nor by its data files")
    looks = "v2.1" if listing.lies_like == "v2" else "v3.0"
    if version and not re.fullmatch(r"v[23](\.\d+)*", version):
        raise BadInput(
            f"{folder} is a dataset of version {version}, expected v2.0, v2.1 or v3.0; its files lie as in {looks}: if "
            f'it is one, write "codebase_version": "{looks}" into {layout.INFO_PATH}'
        )
    remarks += listing.remarks
    remarks += [
        ("pictures", f"{name} holds pictures, and info.json does not declare it: left out") for name in pictures
    ]
    if version[:2] != listing.lies_like:
        said = f"says {version}" if version else "states no version"
        remarks.append(("version", f"info.json {said}, its files lie as in {looks}: they were read so"))
    if whole(info.get("total_episodes")) != len(rows):
        remarks.append(("counts", f"info.json counts {info.get('total_episodes')!r} episodes, there are {len(rows)}"))
    posa = None
    if (folder / layout.POSA_PATH).exists():
        try:
            posa = read_posa(folder, sorted(rows))
        except BadInput as error:
            text = str(error).replace(f"{folder}/", "")[:400]
            remarks.append(("posa", f"{text}; it was not used"))
    robot = info.get("robot_type")
    robot = text_of(robot).strip() if isinstance(robot, str) else ""
    fps, places = _fps(info, folder), Places(folder, info)
    return SourceDataset(folder, version, fps, robot, features, remarks, posa, tasks, info, listing, places)


def _version(info: dict[str, Any]) -> str:
    """`codebase_version`, with the `v` before it that a hand may have left out; empty where there is none."""
    version = str(info.get("codebase_version") or "").strip().lower()
    return f"v{version}" if version[:1].isdigit() else version
