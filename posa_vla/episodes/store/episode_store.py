"""The episode store: immutable batches, named by their content."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import DatasetReader, EpisodeRecord, read_episodes, write_dataset
from posa_vla.episodes.store.batch_remarks import BatchRemark, write_remarks
from posa_vla.episodes.store.quarantine import Quarantine, Replaced, by_prefix
from posa_vla.errors import BadInput
from posa_vla.files import read_json, scratch_folder, sha256_json, sync_folder, write_json
from posa_vla.schema import Closed, parse


class Removal(Closed):
    """`removal.json` beside a batch that was taken out.

    Attributes:
        batch: Its digest.
        reason: Why, in a person's words.
        who: Name of the account that took it out.
        when: POSIX seconds.
    """

    schema_version: Literal[1] = 1
    batch: str = Field(pattern=r"^[0-9a-f]{64}$")
    reason: str = Field(min_length=1)
    who: str
    when: float


class EpisodeStore:
    """A folder of batches, `batches/<digest>/`, each a LeRobot v3.0 dataset of one append.

    A batch never changes. One that a person takes out lies in `removed/` from then on, with the reason.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantine = Quarantine(root)

    def append(
        self, episodes: Iterable[Episode], embodiment: Embodiment, remarks: list[BatchRemark] | None = None
    ) -> str:
        """Adds a batch; the same episodes appended twice are one batch.

        Args:
            episodes: Alike in cameras, image sizes, calibration, control rate.
            embodiment: The one that all of them are of.
            remarks: What was found of them when they came, complete once the last of them was taken.

        Returns:
            The batch's digest.

        Raises:
            BadInput: There are no episodes, or one does not fit the embodiment or the others.
        """
        with scratch_folder(self.root / "drafts") as scratch:
            digest = write_dataset(scratch / "batch", episodes, embodiment)
            write_remarks(scratch / "batch", remarks or [])
            final = self.root / "batches" / digest
            if not final.exists():
                final.parent.mkdir(parents=True, exist_ok=True)
                os.rename(scratch / "batch", final)
                sync_folder(final.parent)
        return digest

    def remove(self, batch: str, reason: str) -> Path:
        """Takes a batch out; it is kept beside the others, and moving it back is all that brings it back.

        Args:
            batch: Its digest.
            reason: Why, in a person's words.

        Returns:
            Folder that the batch lies in now.

        Raises:
            BadInput: There is no such batch, or no reason.
        """
        if not reason.strip():
            raise BadInput("taking a batch out needs a reason: --reason TEXT")
        folder = self.folder(batch)
        # It may have come again since it was taken out before.
        place = self.root / "removed" / f"{batch}.{len(list((self.root / 'removed').glob(f'{batch}.*')))}"
        removal = Removal(batch=batch, reason=reason.strip(), who=getpass.getuser(), when=time.time())
        write_json(place / "removal.json", removal.model_dump(mode="json"))
        os.rename(folder, place / "batch")
        sync_folder(folder.parent)
        return place / "batch"

    def removed(self) -> dict[Path, Removal]:
        """Where each batch lies that was taken out -> who took it out, and why.

        Raises:
            BadInput: A record is damaged.
        """
        found = sorted((self.root / "removed").glob("*/removal.json"))
        records = {path.parent / "batch": parse(Removal, read_json(path), str(path)) for path in found}
        return {folder: record for folder, record in records.items() if folder.is_dir()}

    def batches(self) -> list[str]:
        """Digests of all batches, sorted."""
        folder = self.root / "batches"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def folder(self, batch: str) -> Path:
        """The dataset of a batch.

        Raises:
            BadInput: No batch has this digest.
        """
        folder = self.root / "batches" / batch
        if batch not in self.batches():
            raise BadInput(f"no batch {batch!r} in {self.root}: `posa data list` shows what is there")
        return folder

    def readers(self) -> Iterator[tuple[str, DatasetReader]]:
        """Each batch with its opened dataset, in the order of the digests.

        Raises:
            BadInput: A batch is incomplete or damaged.
        """
        for batch in self.batches():
            yield batch, DatasetReader(self.folder(batch))

    def episodes(self) -> Iterator[Episode]:
        """All episodes, one in memory at a time, in the order of the batches' digests.

        Raises:
            BadInput: A batch is incomplete or damaged.
        """
        for batch in self.batches():
            yield from read_episodes(self.folder(batch))

    def digest(self) -> str:
        """Digest of the whole store: of the batches' digests, and of what is quarantined and released."""
        aside = self.quarantine.digest()
        return sha256_json({"batches": self.batches(), **aside} if aside else self.batches())

    def replaced(self) -> dict[str, Replaced]:
        """Digest of an episode, or key in quarantine -> what counts in its place.

        Where a better episode was announced and never came, or was taken out again, the earlier one counts.

        Raises:
            BadInput: A record is damaged.
        """
        records = self.quarantine.replaced()
        known = self.known() if records else {}
        return {key: record for key, record in records.items() if not record.by or record.by in known}

    def known(self) -> dict[str, tuple[str, int]]:
        """Digest of each episode -> its batch and its number there; batches that cannot be read are passed over."""
        places: dict[str, tuple[str, int]] = {}
        for batch in self.batches():
            try:
                records = DatasetReader(self.folder(batch)).records
            except BadInput:
                continue
            for record in records:
                places.setdefault(record.extra.digest, (batch, record.number))
        return places

    def find(self, text: str) -> tuple[DatasetReader, EpisodeRecord]:
        """An episode and the reader of its batch.

        Args:
            text: First digits of the episode's digest, or BATCH/NUMBER with first digits of the batch's.

        Raises:
            BadInput: No episode, or several, begin with these digits.
        """
        prefix, slash, number = text.partition("/")
        if slash:
            batch, chosen = by_prefix(prefix, self.batches(), "batch"), int(number) if number.isdecimal() else -1
        else:
            known = self.known()
            batch, chosen = known[by_prefix(prefix, known, "episode")]
        reader = DatasetReader(self.folder(batch))
        if not 0 <= chosen < len(reader):
            raise BadInput(f"batch {batch[:12]} has episodes 0 to {len(reader) - 1}, got {number!r}")
        return reader, reader.records[chosen]
