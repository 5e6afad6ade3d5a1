"""The record that a training's job is handed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from posa_vla.params import Params
from posa_vla.schema import Closed


def _absent(value: object) -> bool:
    return value is None


class TrainingJob(Closed):
    """One training, for the nodes of a cluster.

    Attributes:
        storage: Where data and results lie: a directory or `s3://BUCKET/PREFIX`, reached by every node.
        data: Tree of the prepared data in the storage.
        folder: Of this training in the storage: `metrics/`, `policy`, and `ray/` until it is done.
        params: All parameters.
        start: Tree of the policy in the storage that the training starts from (version 2); from random weights if None.
    """

    schema_version: Literal[1, 2] = 1
    storage: str
    data: str
    folder: str
    params: Params
    start: str | None = Field(default=None, exclude_if=_absent)

    @model_validator(mode="after")
    def _start_from_version_2(self) -> TrainingJob:
        if (self.schema_version == 2) != (self.start is not None):
            raise ValueError(f"version {self.schema_version} with start {self.start}: expected one in version 2 alone")
        return self
