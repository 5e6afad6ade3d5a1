"""The record that an evaluation's job is handed."""

from __future__ import annotations

from typing import Literal

from posa_vla.evidence.suite import Suite
from posa_vla.schema import Closed


class RolloutJob(Closed):
    """One policy's evaluation, for the nodes of a cluster.

    Attributes:
        storage: Where bundles and results lie: a directory or `s3://BUCKET/PREFIX`, reached by every node.
        digest: Of the policy's bundle in the storage.
        folder: Of this evaluation in the storage: rows, `videos/`, `overlays/`, `evidence.json`.
        suite: Scenes and conditions; its embodiment is a shipped name, or a file that the nodes have.
    """

    schema_version: Literal[1] = 1
    storage: str
    digest: str
    folder: str
    suite: Suite
