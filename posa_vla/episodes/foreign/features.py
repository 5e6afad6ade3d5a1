"""Features of a foreign dataset: as info.json declares them, and as its files show what that leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.episodes.lerobot import layout
from posa_vla.episodes.outside_files import DAMAGED, damage, is_hidden, whole
from posa_vla.errors import BadInput
from posa_vla.files import safe_join

_ARROW = {"float": "float32", "double": "float64", "halffloat": "float16"}
_KNOWN = {"image", "video", "string", *layout.NUMBERS, *layout.WIDER}


def _feature(declared: Any) -> dict[str, Any] | None:
    if not isinstance(declared, dict) or not isinstance(declared.get("dtype"), str):
        return None
    shape = declared.get("shape")
    sides = [whole(n) or 0 for n in shape] if isinstance(shape, list) else []
    info = declared.get("info") or declared.get("video_info")
    return {
        "dtype": declared["dtype"].strip().lower(),
        "shape": sides if all(0 < n < 10**6 for n in sides) else [],
        "names": declared.get("names"),
        "info": info if isinstance(info, dict) else {},
    }


def features_of(
    folder: Path, info: dict[str, Any], tables: Iterable[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Features as declared, and columns that info.json leaves out; where it is silent, video folders too.

    A column whose declared type is not known here has the one that the table shows. Pictures are where they lie, in the
    table or in files, whatever is declared.

    Pictures that are not declared beside those that are stay out: they would be another camera, of whose use nobody
    has decided.

    Args:
        folder: The dataset.
        info: Its info.json.
        tables: Its data tables, relative to the folder; the first that can be read shows the columns.

    Returns:
        Features without the index columns, and the pictures that are left out.

    Raises:
        BadInput: Nothing declares features, and no table can be read.
    """
    declared = info.get("features")
    said = {str(name): _feature(value) for name, value in declared.items()} if isinstance(declared, dict) else {}
    features = {name: feature for name, feature in said.items() if feature is not None}
    silent, pictures = not features, []
    shown = _shown(folder, tables, needed=silent)
    for name, feature in shown.items():
        if silent or name in said or feature["dtype"] != "image":
            known = features.setdefault(name, feature)
            if known["dtype"] not in _KNOWN:
                known["dtype"] = feature["dtype"]
        else:
            pictures.append(name)
    filmed = _filmed(folder)
    for name in sorted(name for name in filmed if name.startswith(layout.IMAGES)):
        if silent or (name in said and name not in features):
            features[name] = {"dtype": "video", "shape": [], "names": None}
        elif name not in features:
            pictures.append(name)
    for name, feature in features.items():
        if feature["dtype"] in {"image", "video"} and shown:
            in_table = shown.get(name, {"dtype": ""})["dtype"] in {"image", "string"}
            if in_table != (not filmed.isdisjoint({name, name.removeprefix(layout.IMAGES)})):
                feature["dtype"] = "image" if in_table else "video"
    return {k: f for k, f in features.items() if k not in layout.INDEX_COLUMNS}, pictures


def _filmed(folder: Path) -> set[str]:
    """Names of all folders, at any depth, that videos lie in."""
    folders = {path.parent for path in folder.rglob("*.mp4") if not path.name.startswith(".")}
    return {name for place in folders if not is_hidden(place, folder) for name in place.relative_to(folder).parts}


def _shown(folder: Path, tables: Iterable[str], *, needed: bool) -> dict[str, dict[str, Any]]:
    """Columns of the first table that can be read.

    Raises:
        BadInput: None can be read, and one is needed.
    """
    schema, unread = None, "no table"
    for table in tables:
        try:
            schema = pq.read_schema(safe_join(folder, table))
            break
        except DAMAGED:
            unread = f"{folder / table} {damage(folder / table)}, and no other table"
    if schema is None and needed:
        raise BadInput(f"{folder / layout.INFO_PATH} has no features, and {unread} shows them")
    # A table that was written by pandas may hold its row numbers.
    columns = [column for column in schema or () if not column.name.startswith("__")]
    return {column.name: {"dtype": _dtype(column.type), "shape": [], "names": None} for column in columns}


def _dtype(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "image"
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    if pa.types.is_large_string(kind):
        return "string"
    return _ARROW.get(str(kind), str(kind))
