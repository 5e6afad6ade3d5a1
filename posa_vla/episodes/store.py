"""The episode store: immutable batches, named by their content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot_v3 import DatasetReader, read_episodes, write_dataset
from posa_vla.episodes.quarantine import Quarantine, Replaced
from posa_vla.errors import BadInput
from posa_vla.files import scratch_folder, sha256_json, sync_folder


class EpisodeStore:
    """A folder of batches, `batches/<digest>/`, each a LeRobot v3.0 dataset of one append; batches only ever come."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantine = Quarantine(root)

    def append(self, episodes: Iterable[Episode], embodiment: Embodiment) -> str:
        """Adds a batch; the same episodes appended twice are one batch.

        Returns:
            The batch's digest.

        Raises:
            BadInput: There are no episodes, or one does not fit the embodiment or the others.
        """
        with scratch_folder(self.root / "drafts") as scratch:
            digest = write_dataset(scratch / "batch", episodes, embodiment)
            final = self.root / "batches" / digest
            if not final.exists():
                final.parent.mkdir(parents=True, exist_ok=True)
                os.rename(scratch / "batch", final)
                sync_folder(final.parent)
        return digest

    def batches(self) -> list[str]:
        """Digests of all batches, sorted."""
        folder = self.root / "batches"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def folder(self, batch: str) -> Path:
        """The dataset of a batch.

        Raises:
            BadInput: There is none of that digest.
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
        known = self.known()
        return {k: record for k, record in self.quarantine.replaced().items() if not record.by or record.by in known}

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
