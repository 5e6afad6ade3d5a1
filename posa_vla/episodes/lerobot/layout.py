"""LeRobot dataset v3.0: which files, which features, which columns.

The layout is the one that lerobot 0.4 writes: images as PNG or JPEG bytes in the data tables, or as video files. For
what v3.0 has no place (the embodiment's declaration; success, source and scene of each episode) there is
`meta/posa.json`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.errors import BadInput
from posa_vla.geometry import COVARIANCE_SIZE

CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
TASKS_PATH = "meta/tasks.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
POSA_PATH = "meta/posa.json"
IMAGES = "observation.images."
POSE_NAMES = ["x", "y", "z", "qw", "qx", "qy", "qz"]
# Field of an episode -> its feature.
PARTS = {
    "state": "observation.state",
    "action": "action",
    "end_effector": "observation.end_effector",
    "gripper": "observation.gripper",
}
INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
# Features of an episode that are part of the contract; all others are its `extra`.
KNOWN = {*PARTS.values(), *INDEX_COLUMNS}
CAMERA = "observation.camera."
NUMBERS = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64()}
# Other numbers, by what keeps every one of their values; uint64 only has larger ones where something is wrong.
_WHOLE = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")
WIDER = dict.fromkeys(_WHOLE, "int64") | {"float16": "float32"}
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def fill_path(pattern: str, **values: int | str) -> str:
    """A path pattern of info.json with its values: `{name}` and `{name:03d}`, nothing else of Python's formatting.

    Raises:
        BadInput: The pattern names a value that is not given.
    """

    def value(found: re.Match[str]) -> str:
        name, width = found[1], found[2]
        if name not in values:
            raise BadInput(f"path {pattern!r} of info.json has {{{name}}}, expected {', '.join(sorted(values))}")
        return str(values[name]).zfill(int(width or 0))

    return re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", value, pattern)


def _vector(dtype: str, names: list[str]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": names}


def features_of(episode: Episode, embodiment: Embodiment) -> dict[str, dict[str, Any]]:
    """The `features` of info.json for datasets of episodes like this one.

    Raises:
        BadInput: The cameras, the number of state or action channels, or of end effectors, are not the ones that the
            embodiment declares.
    """
    if set(episode.cameras) != set(embodiment.cameras):
        raise BadInput(
            f"episode has cameras {sorted(episode.cameras)}, embodiment {embodiment.id} declares "
            f"{sorted(embodiment.cameras)}"
        )
    features: dict[str, dict[str, Any]] = {}
    for role in embodiment.cameras:
        camera = episode.cameras[role]
        shape = list(camera.images.shape[1:])
        features[IMAGES + role] = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
        if isinstance(camera.images, StoredVideo):
            size = {"video.height": shape[0], "video.width": shape[1], "video.channels": 3, "video.fps": episode.fps}
            features[IMAGES + role] |= {"dtype": "video", "info": size | {"video.is_depth_map": False}}
        if camera.intrinsics is not None:
            features[f"{CAMERA}{role}.intrinsics"] = _vector("float64", ["fx", "fy", "cx", "cy"])
        if camera.pose is not None:
            features[f"{CAMERA}{role}.pose"] = _vector("float64", POSE_NAMES)
        if camera.covariance is not None:
            features[f"{CAMERA}{role}.covariance"] = _vector("float64", [str(n) for n in range(COVARIANCE_SIZE)])
        if camera.end_effector_pixel is not None:
            names = [f"{end}.{name}" for end in embodiment.end_effectors for name in ("u", "v")] or ["u", "v"]
            features[f"{CAMERA}{role}.end_effector_pixel"] = _vector("float64", names)
    for name, array, channels in (
        ("observation.state", episode.state, embodiment.state),
        ("action", episode.action, embodiment.action),
    ):
        if array.shape[1:] != (len(channels),):
            raise BadInput(
                f"{name} has rows of shape {array.shape[1:]}, embodiment {embodiment.id} declares {len(channels)} "
                f"channels: {', '.join(c.name for c in channels)}"
            )
        features[name] = _vector("float32", [channel.name for channel in channels])
    ends = embodiment.end_effectors
    several = (len(ends),) if ends else ()
    if episode.end_effector is not None:
        _require_ends("end_effector", episode.end_effector, (*several, 7), embodiment)
        names = [f"{end}.{name}" for end in ends for name in POSE_NAMES] or POSE_NAMES
        features["observation.end_effector"] = _vector("float64", names)
    if episode.gripper is not None:
        _require_ends("gripper", episode.gripper, several, embodiment)
        features["observation.gripper"] = _vector("float32", list(ends) or ["opening"])
    for name, values in episode.extra.items():
        features[name] = _vector(values.dtype.name, [str(number) for number in range(values.shape[1])])
    for name, dtype in INDEX_COLUMNS.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    # info.json is written with sorted keys: columns stand in its order.
    return dict(sorted(features.items()))


def _require_ends(part: str, rows: NDArray[Any], shape: tuple[int, ...], embodiment: Embodiment) -> None:
    if rows.shape[1:] != shape:
        declared = ", ".join(embodiment.end_effectors) or "one"
        raise BadInput(
            f"{part} has rows of shape {rows.shape[1:]}, expected {shape}: the end effectors that embodiment "
            f"{embodiment.id} declares are {declared}"
        )


def _column(feature: dict[str, Any]) -> tuple[pa.DataType, dict[str, Any]]:
    """Arrow type of a feature, and what the `datasets` library calls it."""
    if feature["dtype"] == "image":
        return IMAGE_TYPE, {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    scalar = NUMBERS[feature["dtype"]]
    if feature["shape"] == [1]:
        return scalar, value
    length = feature["shape"][0]
    return pa.list_(scalar, length), {"feature": value, "length": length, "_type": "List"}


def data_schema(features: dict[str, dict[str, Any]]) -> pa.Schema:
    """Schema of the data tables; video lies in files of its own."""
    columns = {name: _column(feature) for name, feature in features.items() if feature["dtype"] != "video"}
    metadata = {"info": {"features": {name: described for name, (_, described) in columns.items()}}}
    fields = [pa.field(name, kind) for name, (kind, _) in columns.items()]
    return pa.schema(fields, {"huggingface": json.dumps(metadata)})


def tasks_table(tasks: list[str]) -> pa.Table:
    """Instructions with their numbers; the text is the table's pandas index, as LeRobot reads it."""
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}],
        "columns": [{**column, "metadata": None} for column in described],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
