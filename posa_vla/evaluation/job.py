"""The record that an evaluation's job is handed."""

from __future__ import annotations

from typing import Literal

from posa_vla.evidence.suite import Suite
from posa_vla.params import EvaluateParams
from posa_vla.schema import Closed


class RolloutJob(Closed):
    """One policy's evaluation, for the nodes of a cluster.

    Attributes:
        storage: Where bundles and results lie: a directory or `s3://BUCKET/PREFIX`, reached by every node.
        digest: Of the policy's bundle in the storage.
        folder: Of this evaluation in the storage: rows, `videos/`, `overlays/`, `evidence.json`.
        embodiment: Shipped name, or a file that the nodes have.
        task: Name of the task.
        seeds: Scenes.
        params: Limits, and how the policy is run.
        image_size: Pixels along each side.
        flow_steps: The policy's own.
    """

    schema_version: Literal[1] = 1
    storage: str
    digest: str
    folder: str
    embodiment: str
    task: str
    seeds: list[int]
    params: EvaluateParams
    image_size: int
    flow_steps: int

    @property
    def suite(self) -> Suite:
        """The conditions of the evaluation's rollouts."""
        return Suite(self.embodiment, self.task, self.seeds, self.params, self.image_size, self.flow_steps)
