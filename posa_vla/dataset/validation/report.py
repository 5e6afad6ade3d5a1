"""The validation report, as it is written, kept and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posa_vla.dataset.validation.findings import Finding
from posa_vla.files import read_json
from posa_vla.schema import Closed, parse


class Quarantined(Closed):
    """An episode that is kept out of training.

    Attributes:
        batch: Digest of its batch; of an episode that could not be read, its key in quarantine.
        episode: Number in the batch; None stands for the whole batch.
        kept_aside: Whether the episode could not be read when it came, so that no batch holds it.
    """

    batch: str
    episode: int | None
    kept_aside: bool = False


class ValidationReport(Closed):
    """`report.json`: what validation found in an episode store.

    Superseded episodes are counted under `superseded` alone, and what was found of them does not matter. Version 1
    knows neither digests nor kept episodes; version 2 does not count superseded ones.

    Attributes:
        schema_version: Version of this document's layout.
        store_digest: Hex SHA-256 that names the store's content.
        batches: Batches of the store.
        episodes: Episodes that can be read and count.
        frames: Their frames.
        superseded: Episodes that a later ingestion of the same recording replaced.
        unreadable: Episodes that could not be read when they came.
        rules: Rule -> number of its findings.
        quarantined: Episodes and batches with a severe finding that nobody released.
        findings: All that was found.
    """

    schema_version: Literal[1, 2, 3] = 3
    store_digest: str
    batches: int
    episodes: int
    frames: int
    superseded: int = 0
    unreadable: int = 0
    rules: dict[str, int]
    quarantined: list[Quarantined]
    findings: list[Finding]

    def aside(self) -> set[tuple[str, int | None]]:
        """Batch and number of what is quarantined; a number of None stands for the whole batch."""
        return {(row.batch, row.episode) for row in self.quarantined}


def read_report(path: Path) -> ValidationReport:
    """Reads a `report.json`.

    Raises:
        BadInput: The file is missing, is no validation report, or a later posa-vla wrote it.
    """
    return parse(ValidationReport, read_json(path), str(path))
