"""Features of a foreign dataset: as info.json declares them, or as its files show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.episodes.lerobot import layout as layout
from posa_vla.episodes.outside_files import DAMAGED, files_below
from posa_vla.errors import BadInput

_ARROW = {"float": "float32", "double": "float64"}


def _feature(declared: Any) -> dict[str, Any] | None:
    if not isinstance(declared, dict) or not isinstance(declared.get("dtype"), str):
        return None
    shape = declared.get("shape")
    whole = isinstance(shape, list | tuple) and all(isinstance(n, int) and 0 < n < 10**6 for n in shape)
    return {"dtype": declared["dtype"], "shape": list(shape or []) if whole else [], "names": declared.get("names")}


def features_of(folder: Path, info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Features as declared, or, where info.json is silent, as a data table and the video folders show them."""
    declared = info.get("features")
    features = {str(k): _feature(v) for k, v in declared.items()} if isinstance(declared, dict) else {}
    if not features:
        tables = files_below(folder, "data", "*.parquet")
        try:
            schema = pq.read_schema(tables[0]) if tables else pa.schema([])
        except DAMAGED as error:
            raise BadInput(f"{tables[0]} is damaged ({error}), and info.json has no features") from None
        for column in schema:
            kind = "image" if pa.types.is_struct(column.type) or pa.types.is_binary(column.type) else ""
            vector = hasattr(column.type, "value_type")
            number = str(column.type.value_type if vector else column.type)
            features[column.name] = {"dtype": kind or _ARROW.get(number, number), "shape": [], "names": None}
        for file in files_below(folder, "videos", "*.mp4"):
            for part in file.relative_to(folder).parts:
                if part.startswith(layout.IMAGES):
                    features[part] = {"dtype": "video", "shape": [], "names": None}
    return {k: f for k, f in features.items() if f is not None and k not in layout.INDEX_COLUMNS}
