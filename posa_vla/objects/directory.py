"""Objects in a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from posa_vla.files import copy_whole, link_or_copy, safe_join, sync_folder, write_bytes
from posa_vla.objects.contract import _PIECE, REMOVED, Stored, _fetch


class DirectoryObjects:
    """Objects as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def put(self, path: str, data: bytes) -> None:
        """See `Objects.put`; the file is on the disk when this returns."""
        write_bytes(safe_join(self._folder, path), data)

    def get(self, path: str) -> bytes | None:
        """See `Objects.get`."""
        pieces = self.read(path)
        return None if pieces is None else b"".join(pieces)

    def read(self, path: str) -> Iterator[bytes] | None:
        """See `Objects.read`."""
        place = safe_join(self._folder, path)
        return _pieces(place) if place.is_file() else None

    def exists(self, path: str) -> bool:
        """See `Objects.exists`."""
        return safe_join(self._folder, path).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """See `Objects.list`; files that are being written are not there yet."""
        return sorted(found.path for found in self.stored(prefix))

    def stored(self, prefix: str = "") -> Iterator[Stored]:
        """See `Objects.stored`."""
        for file in (self._folder / prefix.rpartition("/")[0]).rglob("*"):
            path = file.relative_to(self._folder).as_posix()
            if path.startswith(prefix) and file.is_file() and not file.name.startswith("."):
                found = file.stat()
                yield Stored(path, found.st_size, found.st_mtime)

    def delete(self, path: str) -> None:
        """See `Objects.delete`."""
        self.place(path).unlink(missing_ok=True)

    def put_file(self, path: str, source: Path) -> None:
        """See `Objects.put_file`: a link where the file system has them, a copy elsewhere."""
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        try:
            link_or_copy(source, draft)
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(place.parent)

    def put_copy(self, path: str, source: Path) -> None:
        """See `Objects.put_copy`."""
        copy_whole(source, self.place(path))

    def fetch(self, path: str, target: Path) -> None:
        """See `Objects.fetch`."""
        _fetch(self.location, path, self.read(path), target)

    def remove(self, prefix: str) -> None:
        """See `Objects.remove`."""
        if not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r} names no folder: expected a slash at its end")
        place = self.place(prefix)
        if not place.is_dir():
            return
        # Gone as a whole: a kill in between leaves nothing that looks like the folder.
        gone = place.with_name(f"{REMOVED}{place.name}")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(place, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def place(self, path: str) -> Path:
        """See `Objects.place`."""
        return safe_join(self._folder, path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
