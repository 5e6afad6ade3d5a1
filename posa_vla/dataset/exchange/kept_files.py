"""The original files of episodes that could not be read: kept, and settled once the episode has come after all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.episodes.foreign.dataset import SourceEpisode
from posa_vla.episodes.foreign.listing import own_number
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.episodes.store.quarantine import Kept
from posa_vla.errors import BadInput
from posa_vla.files import safe_join, scratch_folder, sha256_file


class Waiting:
    """What is kept of episodes of this dataset that could not be read when it came before."""

    def __init__(self, store: EpisodeStore, reader: SourceReader) -> None:
        self._store, self._reader = store, reader
        self._name = reader.source.folder.resolve().name
        settled = store.replaced()
        self._kept: dict[int, list[tuple[str, Kept]]] = {}
        for key, kept in store.quarantine.kept().items():
            if kept.dataset == self._name and key not in settled:
                self._kept.setdefault(kept.episode, []).append((key, kept))

    def settle(self, where: SourceEpisode, digest: str) -> None:
        """Notes that an episode, which could not be read before, has come after all.

        A dataset is known by its folder's name, which others may have too: one of the files that were kept must be
        among the episode's, unless there was none.

        Args:
            where: The episode.
            digest: Its digest.
        """
        for key, kept in self._kept.get(where.number, ()):
            files: set[str] = set()
            if kept.files:
                with scratch_folder(self._store.root / "drafts") as scratch:
                    files = {sha256_file(path) for _, path in _originals(self._reader, where, scratch)}
            if not kept.files or files & set(kept.files.values()):
                reason = f"episode {kept.episode} of {kept.dataset} came again, and could be read"
                self._store.quarantine.replace(key, digest, reason)


def keep(store: EpisodeStore, reader: SourceReader, where: SourceEpisode, rule: str, value: str) -> str:
    """Keeps the files of an episode that cannot be read; returns its key in quarantine."""
    source = reader.source
    # Paths of this machine say nothing to the next one, and would make another finding of the same fault.
    kept = Kept(
        dataset=source.folder.resolve().name,
        episode=where.number,
        length=where.length,
        instruction=where.instruction,
        rule=rule,
        value=value.replace(f"{source.folder}/", "").replace(str(source.folder), "the dataset"),
        files={},
    )
    with scratch_folder(store.root / "drafts") as scratch:
        return store.quarantine.add(kept, list(_originals(reader, where, scratch)))


def _originals(reader: SourceReader, where: SourceEpisode, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The files of one episode; of a table that holds others too, its own rows."""
    folder = reader.source.folder
    stretches = [(name, stretch.path) for name, stretch in where.videos.items() if stretch is not None]
    shared = where.table is not None and own_number(where.table) is None
    for name, relative in [("table.parquet", where.table or ""), *((f"{n}.mp4", path) for n, path in stretches)]:
        try:
            path = safe_join(folder, relative)
            if not path.is_file():
                continue
        except (BadInput, OSError):
            continue
        if shared and name == "table.parquet":
            try:
                rows = reader.table(where, images=True)
                path = scratch / name
                pq.write_table(rows, path)
            except (BadInput, pa.ArrowException, *MALFORMED):
                path = safe_join(folder, relative)
        yield name, path
