"""Where the files of a foreign dataset lie: as info.json says, or where its folders were moved to."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from posa_vla.episodes.lerobot import layout
from posa_vla.episodes.outside_files import is_hidden
from posa_vla.errors import BadInput
from posa_vla.files import safe_join

V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


class Places:
    """Fills the path patterns of info.json, and finds files that lie elsewhere."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self._folder, self._info = folder, info
        self._files: dict[str, list[str]] | None = None
        # Episodes come in order: those of one file follow each other.
        self.find = functools.lru_cache(64)(self._find)

    def filled(self, setting: str, usual: str, values: dict[str, int | str]) -> tuple[str, tuple[str, ...]]:
        """A path by the pattern of info.json, or by the usual one where that cannot name such a file.

        Args:
            setting: `data_path` or `video_path`.
            usual: The pattern of the layout.
            values: Its values.

        Returns:
            The path, and those of its parts that hold the numbers by which the usual pattern tells files apart.
        """
        numbers = re.findall(r"\{((?:episode|chunk|file)_index)", usual)
        # Windows writes its own separator.
        declared = str(self._info.get(setting) or usual).replace("\\", "/")
        pattern = usual
        # One without the file's own number would give several episodes the same file.
        if f"{{{numbers[-1]}" in declared:
            try:
                layout.fill_path(declared, **values)
                pattern = declared
            except BadInput:
                pass
        telling = [part for part in pattern.split("/") if any(f"{{{number}" in part for number in numbers)]
        path = Path(layout.fill_path(pattern, **values)).as_posix()
        return path, tuple(layout.fill_path(part, **values) for part in telling)

    def _find(self, path: str, telling: tuple[str, ...], key: str = "") -> tuple[str, bool]:
        """The path itself where there is such a file, else the one file that can be meant by it.

        Args:
            path: Relative to the dataset.
            telling: Parts of it that the other file's path must have too; the last is its name.
            key: Camera whose file it is: it must lie in a folder of its name.

        Returns:
            A path, and whether there is such a file.
        """
        try:
            if safe_join(self._folder, path).is_file():
                return path, True
        except BadInput:
            pass  # it leads out of the folder: whoever opens it is told so, if no other file is found
        if self._files is None:
            self._files = {}
            for place in sorted(self._folder.rglob("*.*")):
                if place.suffix in {".mp4", ".parquet"} and not is_hidden(place, self._folder) and place.is_file():
                    self._files.setdefault(place.name, []).append(place.relative_to(self._folder).as_posix())
        names = {key, key.removeprefix(layout.IMAGES)} if key else set()
        others = [
            other
            for other in self._files.get(Path(path).name, [])
            if set(telling) <= set(Path(other).parts) and (not key or any(f"/{n}/" in f"/{other}" for n in names))
        ]
        return (others[0], True) if len(others) == 1 else (path, False)
