"""A foreign dataset into the episode store: what is sound as batches, what cannot be read as it came."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.console import Advance, progress
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot_files import MALFORMED
from posa_vla.episodes.lerobot_layout import features_of
from posa_vla.episodes.lerobot_source import SourceEpisode
from posa_vla.episodes.quarantine import Kept
from posa_vla.episodes.source_episode import BadEpisode, SourceReader
from posa_vla.episodes.store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, require_free_space, safe_join, scratch_folder

# Episodes of one batch: what a killed ingestion may have to do again.
_BATCH = 500


@dataclass
class Ingested:
    """What became of a dataset's episodes.

    Attributes:
        batches: Batches that hold episodes of it, old and new.
        episodes: Digests of those that are in a batch.
        kept: Keys of those that could not be read; their files are in quarantine.
        new: How many of both were not there before.
        remarks: (rule, value): what was found of the dataset as a whole.
    """

    batches: list[str] = field(default_factory=list)
    episodes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    new: int = 0
    remarks: list[tuple[str, str]] = field(default_factory=list)


def ingest(store: EpisodeStore, reader: SourceReader) -> Ingested:
    """Takes every episode of a dataset into the store; the same episode twice is one.

    Episodes are taken in order, one in memory at a time, and appear in the store a batch at a time: a killed call is
    continued by the next one. What cannot be read is kept aside with its files, never dropped.

    Args:
        store: Where they go.
        reader: The dataset.

    Raises:
        BadInput: The disk has no room.
    """
    source = reader.source
    places = list(source.episodes())
    known, had = store.known(), set(store.quarantine.kept())
    done = Ingested(remarks=list(source.remarks))
    done.remarks += [("feature-kept-out", f"{name} cannot be kept") for name in reader.features.dropped]
    size = sum(file.stat().st_size for file in source.folder.rglob("*") if file.is_file())
    require_free_space(store.root, size, "ingesting the dataset")
    with progress("ingest", len(places), unit="episode") as advance:
        fresh = _fresh(store, reader, places, known, done, advance)
        numbered = enumerate(fresh)
        for _, group in itertools.groupby(numbered, lambda item: (_likeness(item[1], reader), item[0] // _BATCH)):
            store.append((episode for _, episode in group), reader.embodiment)
    places_now = store.known()
    done.batches = sorted({places_now[digest][0] for digest in done.episodes if digest in places_now})
    done.new += len(set(done.kept) - had)
    return done


def _likeness(episode: Episode, reader: SourceReader) -> bytes:
    """Equal for episodes that can lie in one batch."""
    return canonical_json([features_of(episode, reader.embodiment), episode.fps])


def _fresh(
    store: EpisodeStore,
    reader: SourceReader,
    places: list[SourceEpisode],
    known: dict[str, tuple[str, int]],
    done: Ingested,
    advance: Advance,
) -> Iterator[Episode]:
    """The episodes that the store does not hold yet; the others, and what is wrong with some, are noted in `done`."""
    seen = set(known)
    for where in places:
        try:
            episode = reader.episode(where)
            digest = episode_digest(episode)
        except BadEpisode as error:
            done.kept.append(_keep(store, reader, where, error.rule, str(error)))
        except BadInput as error:
            done.kept.append(_keep(store, reader, where, "images", str(error)))
        except MALFORMED as error:
            done.kept.append(_keep(store, reader, where, "table", f"{type(error).__name__}: {error}"))
        else:
            _note(where, episode, done)
            done.episodes.append(digest)
            if digest not in seen:
                seen.add(digest)
                done.new += 1
                yield episode
        advance(1)


def _note(where: SourceEpisode, episode: Episode, done: Ingested) -> None:
    if where.length is not None and where.length != len(episode):
        text = f"episode {where.number}: the metadata counts {where.length} frames, table and images {len(episode)}"
        done.remarks.append(("length-metadata", text))
    if where.tasks > 1:
        text = f"episode {where.number} has {where.tasks} instructions, the first was taken: {episode.instruction!r}"
        done.remarks.append(("several-tasks", text))


def _keep(store: EpisodeStore, reader: SourceReader, where: SourceEpisode, rule: str, value: str) -> str:
    """Keeps what there is of an episode that cannot be read."""
    source = reader.source
    # Paths of this machine say nothing to the next one, and would make another finding of the same fault.
    kept = Kept(
        dataset=source.folder.resolve().name,
        episode=where.number,
        length=where.length,
        instruction=where.instruction,
        rule=rule,
        value=value.replace(f"{source.folder}/", ""),
        files={},
    )
    with scratch_folder(store.root / "drafts") as scratch:
        return store.quarantine.add(kept, list(_originals(reader, where, scratch)))


def _originals(reader: SourceReader, where: SourceEpisode, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The files of one episode; of a table that holds others too, its own rows."""
    folder = reader.source.folder
    stretches = [(name, stretch.path) for name, stretch in where.videos.items() if stretch is not None]
    shared = not reader.source.version.startswith("v2")
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
