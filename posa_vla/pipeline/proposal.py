"""What has come into the episode store since the last training data."""

from __future__ import annotations

from dataclasses import dataclass

from posa_vla.dataset.shards.manifest import MANIFEST, read_manifest
from posa_vla.dataset.shards.prepare import unfit
from posa_vla.dataset.versions.history import version_numbers
from posa_vla.dataset.versions.store_state import read_state
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.params import Params
from posa_vla.workspace import Workspace


@dataclass(frozen=True)
class StoreState:
    """The episode store against what a target was last trained on.

    Attributes:
        digest: Digest of the store.
        usable: Successful episodes of the target's embodiment in the store that its filter asks for.
        versioned: Episodes of the newest data version of that embodiment and filter; 0 before the first.
    """

    digest: str
    usable: int
    versioned: int

    @property
    def new(self) -> int:
        """Episodes that the newest data version does not hold."""
        return max(self.usable - self.versioned, 0)


def store_state(workspace: Workspace, params: Params) -> StoreState:
    """Counts what has come since the newest data version.

    The newest version is the one that the store is at, else the last that was made: batches may have been taken out
    since an earlier one. A successful episode that validation keeps out of training counts as new until the store as
    it is has been versioned.
    """
    embodiment, where = load_embodiment(params.chosen.embodiment).id, params.chosen.data.where
    store = EpisodeStore(workspace.store)
    readers = [(batch, reader) for batch, reader in store.readers() if reader.embodiment.id == embodiment]
    gone = store.replaced()
    records = [r for batch, reader in readers for r in reader.records if not unfit(where, batch, reader, r)]
    usable = sum(record.extra.success and record.extra.digest not in gone for record in records)
    versioned, numbers, state = 0, version_numbers(workspace), read_state(workspace)

    def age(version: str) -> tuple[bool, int]:
        return state is not None and state.version == version, numbers.get(version, -1)

    for version in sorted((path.parent.name for path in workspace.data.glob(f"*/{MANIFEST}")), key=age):
        manifest = read_manifest(workspace.data / version)
        if manifest.embodiment.id != embodiment or manifest.where != where:
            continue
        versioned = sum(split.episodes for split in manifest.splits.values())
        if manifest.source_digest == store.digest():
            return StoreState(store.digest(), usable, usable)
    return StoreState(store.digest(), usable, versioned)
