"""The record that a training's job is handed."""

from __future__ import annotations

from typing import Literal

from posa_vla.params import Params
from posa_vla.schema import Closed


class TrainingJob(Closed):
    """One training, for the nodes of a cluster.

    Attributes:
        storage: Where data and results lie: a directory or `s3://BUCKET/PREFIX`, reached by every node.
        data: Tree of the prepared data in the storage.
        folder: Of this training in the storage: `metrics/`, `policy`, and `ray/` until it is done.
        params: All parameters.
    """

    schema_version: Literal[1] = 1
    storage: str
    data: str
    folder: str
    params: Params
