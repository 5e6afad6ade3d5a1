"""The record of a data version, as it lies in the history."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from posa_vla.dataset.shards.manifest import SplitCount
from posa_vla.dataset.versions.clone import Clone
from posa_vla.schema import Closed, parse_json

# Where a version's record lies in its commit.
RECORD = "data/version.json"


class EpisodeEntry(Closed):
    """An episode of a version: batch, number there, frames, instruction, and whether it is quarantined."""

    batch: str
    number: int
    frames: int
    instruction: str
    quarantined: bool


class VersionRecord(Closed):
    """`data/version.json` of a commit: what the version is made of.

    Attributes:
        version: Hex SHA-256 over the episodes and what was prepared from them.
        embodiment: Id of the embodiment that it was prepared for.
        episodes: Digest -> episode, all of the store that no later ingestion of the same recording replaced.
        splits: Split -> episodes and frames that were prepared.
        store_files: Path below the episode store -> hex SHA-256.
        prepared_files: Path below the prepared data -> hex SHA-256.
        kept: Keys of the episodes that could not be read when they came.
    """

    schema_version: Literal[1] = 1
    version: str
    embodiment: str
    episodes: dict[str, EpisodeEntry]
    splits: dict[str, SplitCount]
    store_files: dict[str, str]
    prepared_files: dict[str, str]
    kept: list[str] = Field(default_factory=list)


class DataVersion(Closed):
    """A version of the training data, as the steps of a retraining are handed it.

    Attributes:
        version: Hex SHA-256 over the episodes and what was prepared from them.
        name: Its human name, `data-v<number>`.
        folder: The prepared data (manifest.json, normalisation.json, shards), read-only; relative to the workspace.
        episodes: Episodes in all splits.
        frames: Frames in all splits.
        commit: Commit of the workspace repository, on branch `data/<version>`.
        prepared: Digest of the prepared data's files.
    """

    version: str
    name: str
    folder: str
    episodes: int
    frames: int
    commit: str
    prepared: str


def read_record(clone: Clone, commit: str) -> VersionRecord | None:
    """The record of a commit; None for one that was made before there were records."""
    if RECORD not in clone.git("ls-tree", "-r", "--name-only", commit, "--", RECORD):
        return None
    text = clone.git("show", f"{commit}:{RECORD}")
    return parse_json(VersionRecord, text.encode(), f"{RECORD} of {commit[:12]}")
