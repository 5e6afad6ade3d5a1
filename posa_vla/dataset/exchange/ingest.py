"""A foreign dataset into the episode store: what is sound as batches, what cannot be read as it came."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from posa_vla.console import Advance, progress
from posa_vla.dataset.exchange.kept_files import Waiting, keep
from posa_vla.dataset.exchange.recordings import Recordings, Same
from posa_vla.episodes.content import episode_digest
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.bad_episode import BadEpisode
from posa_vla.episodes.foreign.dataset import SourceEpisode
from posa_vla.episodes.foreign.reader import Remark, SourceReader
from posa_vla.episodes.lerobot.layout import features_of
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.episodes.store.batch_remarks import BatchRemark
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, require_free_space
from posa_vla.schema import parse

_log = logging.getLogger(__name__)
# Episodes of one batch: what a killed ingestion may have to do again.
_BATCH = 500


@dataclass(frozen=True)
class DatasetRemark:
    """One thing that was found of a dataset.

    Attributes:
        rule: Rule of the validation under which it is reported.
        episode: Number in the dataset, or None for the dataset as a whole. A batch numbers its episodes anew.
        value: What was found, in words.
    """

    rule: str
    episode: int | None
    value: str


@dataclass
class Ingested:
    """What became of a dataset's episodes.

    Attributes:
        batches: Batches that hold episodes of it, old and new.
        episodes: Digests of those that are in a batch; where a stored one has more declared of the same recording, its.
        kept: Keys of those that could not be read; their files are in quarantine.
        new: How many of both were not there before.
        superseded: How many stored episodes of the same recordings the new ones count in the place of.
        remarks: What was found of the dataset and its episodes.
    """

    batches: list[str] = field(default_factory=list)
    episodes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    new: int = 0
    superseded: int = 0
    remarks: list[DatasetRemark] = field(default_factory=list)


@dataclass(frozen=True)
class _Fresh:
    """An episode that the store does not hold yet, and (rule, frame, value) of what was found of it."""

    episode: Episode
    remarks: list[Remark]


def ingest(store: EpisodeStore, reader: SourceReader) -> Ingested:
    """Takes every episode of a dataset into the store; the same episode twice is one.

    Episodes are taken in order, one in memory at a time, and appear in the store a batch at a time: a killed call is
    continued by the next one. What cannot be read is kept aside with its files, never dropped. An episode of a
    recording that the store has already, with more or other things declared of it, counts in the earlier one's place.
    A calibration file is the last word on the cameras: what it no longer says is gone, and an earlier file given again
    counts again. Without one, a stored calibration stays. What a person has decided stays decided.

    Args:
        store: Store that the episodes go into.
        reader: The dataset.

    Raises:
        BadInput: The disk has no room.
    """
    source = reader.source
    places = source.episodes()
    had = set(store.quarantine.kept())
    done = Ingested(remarks=[DatasetRemark("metadata", None, value) for _, value in source.remarks])
    done.remarks += [
        DatasetRemark("metadata", None, f"feature {name} cannot be kept") for name in reader.features.dropped
    ]
    done.remarks += [
        DatasetRemark("metadata", None, f"{name} is depth, no colour camera: left out ({why})")
        for name, why in reader.features.depth.items()
    ]
    size = sum(file.stat().st_size for file in source.folder.rglob("*") if file.is_file())
    require_free_space(store.root, size, "ingesting the dataset")
    # Of the dataset as a whole: kept with the first batch that is made of it.
    whole = [BatchRemark(rule="metadata", episode=None, frame=None, value=remark.value) for remark in done.remarks]
    with progress("ingest", len(places), unit="episode") as advance:
        numbered = enumerate(_fresh(store, reader, places, done, advance))
        for _, group in itertools.groupby(
            numbered, lambda item: (_likeness(item[1].episode, reader), item[0] // _BATCH)
        ):
            remarks, whole = whole, []
            store.append(_noting((fresh for _, fresh in group), remarks), reader.embodiment, remarks)
    places_now = store.known()
    done.batches = sorted({places_now[digest][0] for digest in done.episodes if digest in places_now})
    done.new += len(set(done.kept) - had)
    return done


def _noting(group: Iterable[_Fresh], remarks: list[BatchRemark]) -> Iterator[Episode]:
    """The episodes of one batch; what was found of each goes to `remarks`, with its number there."""
    for number, fresh in enumerate(group):
        for rule, frame, value in fresh.remarks:
            remarks.append(
                parse(BatchRemark, {"rule": rule, "episode": number, "frame": frame, "value": value}, "remark")
            )
        yield fresh.episode


def _likeness(episode: Episode, reader: SourceReader) -> bytes:
    """Equal for episodes that can lie in one batch."""
    return canonical_json([features_of(episode, reader.embodiment), episode.fps])


def _fresh(
    store: EpisodeStore, reader: SourceReader, places: list[SourceEpisode], done: Ingested, advance: Advance
) -> Iterator[_Fresh]:
    """The episodes that the store does not hold yet; the others, and what is wrong with some, are noted in `done`."""
    seen, recordings, waiting = set(store.known()), Recordings(store), Waiting(store, reader)
    replaced = store.replaced()
    for where in places:
        try:
            episode, remarks = reader.read(where)
            digest = episode_digest(episode)
            gone = replaced.get(digest) if digest in seen else None
            back = gone is not None and gone.by != "" and reader.calibration is not None
            same = recordings.same(episode) if back or digest not in seen else []
        except BadEpisode as error:
            done.kept.append(keep(store, reader, where, error.rule, str(error)))
        except BadInput as error:
            done.kept.append(keep(store, reader, where, "images", str(error)))
        except MALFORMED:
            _log.debug("episode %d of %s", where.number, reader.source.folder, exc_info=True)
            done.kept.append(keep(store, reader, where, "table", "its table holds values that are no episode's"))
        else:
            done.remarks += [DatasetRemark(rule, where.number, value) for rule, _, value in remarks]
            better = next((other for other in same if not _gives_way(other, reader, back)), None)
            if better is not None and not back:
                if better.lacks:
                    more = f"the store has its recording with {', '.join(better.lacks)}, which counts"
                    if better.adds:
                        more += f" (for {', '.join(better.adds)} of this one, ingest it with its --calibration)"
                    done.remarks.append(DatasetRemark("metadata", where.number, more))
                digest = better.digest
            if back and same and better is None:
                for other in same:
                    replaced[other.digest] = store.quarantine.replace(other.digest, digest, _why(other, digest))
                del replaced[digest]
                done.superseded += len(same)
            elif gone is not None and gone.by and reader.calibration is None:
                said = f"the store counts another episode of its recording: {gone.reason}"
                done.remarks.append(DatasetRemark("metadata", where.number, said))
            while digest in seen and digest in replaced and replaced[digest].by:
                digest = replaced[digest].by
            if digest in seen and digest in replaced:
                said = f"a person decided that episode {digest[:12]} counts no more: {replaced[digest].reason}"
                done.remarks.append(DatasetRemark("metadata", where.number, said))
            done.episodes.append(digest)
            # Before the episode is there: a record that names one which never came counts for nothing.
            waiting.settle(where, digest)
            if digest not in seen:
                for other in same:
                    store.quarantine.replace(other.digest, digest, _why(other, digest))
                seen.add(digest)
                done.new += 1
                done.superseded += len(same)
                yield _Fresh(episode, remarks)
        advance(1)


def _gives_way(other: Same, reader: SourceReader, back: bool) -> bool:
    """Whether a stored episode of the same recording counts no more; `back`: the new one was replaced earlier."""
    if reader.calibration is None:
        return bool(other.adds) and not other.calibrated_alone
    return other.recalibrated or (bool(other.adds) and not back)


def _why(other: Same, digest: str) -> str:
    differs = [f"with another {', '.join(other.adds)}"] if other.adds else []
    differs += [f"without {', '.join(other.lacks)}"] if other.lacks else []
    return f"episode {digest[:12]} is the same recording {', '.join(differs)}, and came later"
