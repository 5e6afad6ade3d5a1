"""The videos of a foreign dataset: each file is looked through once, for all episodes that lie in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from posa_vla.episodes.foreign.dataset import SourceDataset, SourceEpisode
from posa_vla.episodes.foreign.video_places import Claim, Placed, place
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.episodes.media.video_file import VideoIndex, read_video_index
from posa_vla.episodes.outside_files import file_inside
from posa_vla.errors import BadInput

# Files whose pictures' times are in memory: those of one episode's cameras, and some.
_FILES = 32


class SourceVideos:
    """Finds the pictures of each episode."""

    def __init__(self, source: SourceDataset, rows: Callable[[SourceEpisode], int | None]) -> None:
        """Notes where to look; no file is opened yet.

        Args:
            source: The dataset.
            rows: How many rows an episode's table has, or None where it cannot be read.
        """
        self._source = source
        self._rows = rows
        self._index = functools.lru_cache(_FILES)(self._read_index)
        self._places = functools.lru_cache(_FILES)(self._place)

    def video(self, feature: str, where: SourceEpisode) -> StoredVideo:
        """The frames of one camera of an episode; nothing is decoded.

        Raises:
            BadInput: The file is missing or damaged, or which of its pictures are the episode's cannot be told.
        """
        stretch = where.videos[feature]
        if stretch is None:
            raise BadInput(f"the metadata do not say where {feature} of episode {where.number} is")
        placed, fps = self._places(feature, stretch.path)[where.number], self._source.fps
        if isinstance(placed, str):
            raise BadInput(placed)
        index, (first, frames) = self._index(stretch.path), (placed.first, placed.frames)
        times, end = index.times, index.end_of(placed.first + placed.frames - 1)
        steps = [times[first] - times[first - 1]] if first else []
        steps += [end - times[first + frames - 1]] if end is not None else []
        if min(steps, default=1 / fps) <= 0.5 / fps:
            raise BadInput(
                f"{stretch.path}: pictures lie {min(steps):.4f} s apart where the episode begins or ends, less than "
                f"half a frame at {fps:g}/s: encode the video at the dataset's rate"
            )
        path = file_inside(self._source.folder, stretch.path)
        return StoredVideo(path, float(times[first]), end, frames, fps, index.size)

    def habits(self, where: SourceEpisode, features: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Kind and words of what the metadata get wrong of an episode's videos (see `video_places.Placed.notes`)."""
        for feature in features:
            stretch = where.videos.get(feature)
            placed = None if stretch is None else self._places(feature, stretch.path)[where.number]
            yield from placed.notes.items() if isinstance(placed, Placed) else ()

    def _read_index(self, path: str) -> VideoIndex:
        return read_video_index(file_inside(self._source.folder, path))

    @functools.cached_property
    def _sharing(self) -> dict[tuple[str, str], list[SourceEpisode]]:
        """(feature, file) -> the episodes in it."""
        found: dict[tuple[str, str], list[SourceEpisode]] = {}
        for where in self._source.episodes():
            for feature, stretch in where.videos.items():
                if stretch is not None:
                    found.setdefault((feature, stretch.path), []).append(where)
        return found

    def _place(self, feature: str, path: str) -> dict[int, Placed | str]:
        claims = []
        for where in self._sharing[feature, path]:
            stretch = where.videos[feature]
            if stretch is not None:
                rows = self._rows(where) or where.length
                spanned = 1 if stretch.end is None else max(round((stretch.end - stretch.start) * self._source.fps), 1)
                claims.append(Claim(where.number, stretch.start, stretch.end, rows or spanned))
        return place(claims, self._index(path), self._source.fps, path)
