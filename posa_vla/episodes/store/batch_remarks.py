"""Remarks on a dataset that came in: what was found then, and the batch made of it does not show."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posa_vla.files import read_json, write_json
from posa_vla.schema import Closed, parse

# Beside the other metadata of the batch; a batch of which there was nothing to say has none.
_PATH = "meta/remarks.json"


class BatchRemark(Closed):
    """One thing that was found.

    Attributes:
        rule: Rule of the validation under which it is reported.
        episode: Number in the batch, or None for the dataset as a whole.
        frame: First frame concerned, or None.
        value: What was found, in words.
    """

    rule: Literal["metadata", "timestamps"]
    episode: int | None
    frame: int | None
    value: str


class BatchRemarks(Closed):
    """`meta/remarks.json` of a batch."""

    schema_version: Literal[1] = 1
    remarks: list[BatchRemark]


def write_remarks(batch: Path, remarks: list[BatchRemark]) -> None:
    """Puts remarks into a batch that is being written."""
    if remarks:
        write_json(batch / _PATH, BatchRemarks(remarks=remarks).model_dump(mode="json"))


def read_remarks(batch: Path) -> list[BatchRemark]:
    """The remarks of a batch; none where it was written without.

    Raises:
        BadInput: The file is damaged.
    """
    path = batch / _PATH
    return parse(BatchRemarks, read_json(path), str(path)).remarks if path.is_file() else []
