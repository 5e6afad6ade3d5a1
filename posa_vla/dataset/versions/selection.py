"""The filter that chose a version's episodes, as it lies in the history: `selection.json`."""

from __future__ import annotations

from pathlib import Path

from posa_vla.files import read_json
from posa_vla.schema import parse
from posa_vla.target_params import EVERYTHING, Where

# Its name in a version's commit; the stage `prepare` depends on it.
SELECTION = "selection.json"


def read_selection(path: Path) -> Where:
    """A filter; one that takes everything where there is no file, as in versions of before there were filters.

    Raises:
        BadInput: The file does not fit the schema.
    """
    return parse(Where, read_json(path), str(path)) if path.is_file() else EVERYTHING
