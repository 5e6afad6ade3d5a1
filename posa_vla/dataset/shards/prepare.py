"""From a validated store to training shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from posa_vla.console import progress, say
from posa_vla.dataset.shards.manifest import PreparedManifest
from posa_vla.dataset.shards.mixed_up import require_actions
from posa_vla.dataset.shards.pack import pack_episodes
from posa_vla.dataset.shards.spread import still_channels, still_in_words
from posa_vla.dataset.shards.taken_frames import require_ratio
from posa_vla.dataset.split import few_held_out, require_scenes, split_of
from posa_vla.dataset.validation.report import ValidationReport
from posa_vla.episodes.action_space import action_space
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, EpisodeRecord
from posa_vla.episodes.store.declared import require_meant_alike
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import read_json, require_free_space
from posa_vla.params import PrepareParams
from posa_vla.target_params import EVERYTHING, Where


def _chosen(
    store: EpisodeStore, report: ValidationReport, embodiment: Embodiment, params: PrepareParams, where: Where
) -> list[tuple[DatasetReader, list[EpisodeRecord]]]:
    """The batches of an embodiment with the episodes to learn from: asked for, successful, not superseded, sound."""
    replaced = store.replaced()
    quarantined = report.aside()
    chosen = []
    for batch in store.batches():
        if (batch, None) in quarantined:
            continue
        reader = DatasetReader(store.folder(batch))
        counted = [
            record
            for record in reader.records
            if record.extra.digest not in replaced and not unfit(where, batch, reader, record)
        ]
        if reader.embodiment.id != embodiment.id or not counted:
            continue
        require_meant_alike(batch, reader.embodiment, embodiment, resample=params.resample)
        if params.resample:
            require_ratio(reader.embodiment.control_hz, embodiment.control_hz, f"batch {batch[:12]}")
        records = [r for r in counted if imitable(r) and (batch, r.number) not in quarantined]
        chosen.append((reader, records))
    return chosen


def _episodes(chosen: list[tuple[DatasetReader, list[EpisodeRecord]]]) -> Iterator[Episode]:
    for reader, records in chosen:
        for record in records:
            yield reader.episode(record)


def unfit(where: Where, batch: str, reader: DatasetReader, record: EpisodeRecord) -> list[str]:
    """The keys of a filter that a stored episode does not fit; none for one that is learned from."""
    embodiment, source = reader.embodiment.id, record.extra.source
    return list(where.unfit(embodiment=embodiment, instruction=record.instruction, source=source, batch=batch))


def imitable(record: EpisodeRecord) -> bool:
    """Whether an episode's actions are worth imitating: its task was done, or an expert has relabelled each of them."""
    collected = record.extra.scene.get("collected")
    return record.extra.success or (isinstance(collected, dict) and collected.get("how") == "dagger")


def nothing_to_learn(
    store_folder: Path,
    report: ValidationReport,
    embodiment: Embodiment,
    params: PrepareParams,
    where: Where = EVERYTHING,
) -> str:
    """Why `prepare` would have nothing to train on, in words; empty where it has something.

    Args:
        store_folder: An episode store.
        report: What `validate` said of this very store.
        embodiment: Whose episodes would be packed.
        params: The split.
        where: Filter that chooses among them.

    Raises:
        BadInput: A batch was recorded when the embodiment meant something else.
    """
    chosen = _chosen(EpisodeStore(store_folder), report, embodiment, params, where)
    try:
        action_space(embodiment, params.actions)
        require_actions(_episodes(chosen), embodiment)
        require_scenes(_episodes(chosen), params.validation_fraction)
    except BadInput as error:
        return str(error)
    held_out = few_held_out(_episodes(chosen), params.validation_fraction)
    count = 0
    for episode in _episodes(chosen):
        count += 1
        if split_of(episode, params.validation_fraction, held_out) == "train":
            return ""
    if count:
        return f"all {count} are held out by prepare.validation_fraction {params.validation_fraction}"
    asked = "" if where == EVERYTHING else " that targets.*.data.where asks for"
    return f"no episode of embodiment {embodiment.id}{asked} is sound and successful"


def prepare(
    store_folder: Path,
    report: ValidationReport,
    embodiment: Embodiment,
    params: PrepareParams,
    out: Path,
    where: Where = EVERYTHING,
) -> PreparedManifest:
    """Packs the successful, sound episodes of one embodiment.

    Args:
        store_folder: An episode store.
        report: What `validate` said of this very store.
        embodiment: Whose episodes are packed; its declaration goes into the manifest.
        params: Split and labels.
        out: Folder that appears whole (see `pack_episodes`).
        where: Filter that chooses among them.

    Returns:
        The manifest.

    Raises:
        BadInput: The report is of another store, nothing is left to learn from, the actions are the states of the next
            frames, all are of one scene, or the rates do not divide.
    """
    store = EpisodeStore(store_folder)
    if report.store_digest != store.digest():
        raise BadInput(f"the report is of another store than {store_folder}: run `posa data validate` again")
    chosen = _chosen(store, report, embodiment, params, where)
    episodes = sum(len(records) for _, records in chosen)
    if not episodes and (black := _black_cameras(store, report, embodiment)):
        raise BadInput(
            f"{store_folder}: all episodes of embodiment {embodiment.id} are kept aside, and a camera is black in "
            f"them ({', '.join(black)}): mend it and record again, or take it out of the embodiment file and ingest "
            "without it"
        )
    if not episodes:
        raise BadInput(
            f"{store_folder} has no sound, successful episode of embodiment {embodiment.id}"
            f"{'' if where == EVERYTHING else ' that targets.*.data.where asks for'} "
            f"({len(report.quarantined)} quarantined): see the report's findings, or collect more"
        )
    require_actions(_episodes(chosen), embodiment)
    require_scenes(_episodes(chosen), params.validation_fraction)
    # Twice: the rows of each tensor, then the shard made of them.
    require_free_space(
        out, 2 * sum(_bytes(reader, records, params) for reader, records in chosen), "preparing the data"
    )

    held_out = few_held_out(_episodes(chosen), params.validation_fraction)
    with progress("prepare", episodes, unit="episode") as advance:

        def read() -> Iterator[Episode]:
            for episode in _episodes(chosen):
                yield episode
                advance(1)

        digest = store.digest()
        manifest = pack_episodes(read(), embodiment, params, out, source_digest=digest, held_out=held_out, where=where)
    still = still_in_words(still_channels(embodiment, read_json(out / "normalisation.json")), embodiment)
    if still:
        say(f"prepare: {still}")
    if params.trim_idle:
        frames = sum(record.length for _, records in chosen for record in records)
        say(f"prepare: {manifest.trimmed} of {frames} frames are left out: idle at the ends of their episodes")
    return manifest


def _black_cameras(store: EpisodeStore, report: ValidationReport, embodiment: Embodiment) -> list[str]:
    """Roles of the cameras that the rule `black` found in episodes of an embodiment that are kept aside."""
    aside = report.aside()
    mine = {batch for batch, reader in store.readers() if reader.embodiment.id == embodiment.id}
    black = [f for f in report.findings if f.rule == "black" and f.batch in mine and (f.batch, f.episode) in aside]
    return sorted({finding.value.split(":")[0] for finding in black})


def _bytes(reader: DatasetReader, records: list[EpisodeRecord], params: PrepareParams) -> int:
    return sum(record.length for record in records) * len(reader.embodiment.cameras) * 3 * params.image_size**2
