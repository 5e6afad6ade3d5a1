"""LeRobot datasets of other people's making, v2.1 and v3.0, for tests of what reads them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from videos import moving_picture, write_video

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.fit import require_fit
from posa_vla.episodes.foreign.mapping import derived_embodiment, map_features, parse_map
from posa_vla.episodes.foreign.reader import SourceReader

LENGTHS = (20, 30, 25)
FPS = 10
CAMERA = "observation.images.cam_high"


def trajectory(number: int, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """State and action, float32 (frames, 4): smooth, and each action is half a step ahead of the state that follows."""
    phase, times = np.random.default_rng(number).uniform(0, 6, 4), np.arange(frames)[:, None]
    state, action = (np.sin(phase + (times + ahead) / 7).astype(np.float32) for ahead in (0, 1.5))
    return state, action


def _png(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()


def _vectors(values: NDArray[np.float32]) -> pa.Array:
    return pa.array([row.tolist() for row in values], pa.list_(pa.float32()))


def episode_table(
    number: int, frames: int, start: int, images: dict[str, NDArray[np.uint8]], seed: int = 0
) -> pa.Table:
    """The rows of one episode."""
    state, action = trajectory(seed + number, frames)
    columns: dict[str, Any] = {
        "observation.state": _vectors(state),
        "action": _vectors(action),
        "timestamp": pa.array((np.arange(frames) / FPS).astype(np.float32)),
        "frame_index": pa.array(range(frames), pa.int64()),
        "episode_index": pa.array([number] * frames, pa.int64()),
        "index": pa.array(range(start, start + frames), pa.int64()),
        "task_index": pa.array([number % 2] * frames, pa.int64()),
    }
    for name, pictures in images.items():
        columns[name] = pa.array([{"bytes": _png(image), "path": None} for image in pictures])
    return pa.table(columns)


TASKS = ["pick up the red cube", "open the drawer"]


def _info(version: str, features: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "codebase_version": version,
        "robot_type": "Test Arm",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "fps": FPS,
        "features": features,
        **more,
    }


def _features(cameras: tuple[str, ...], video: bool) -> dict[str, Any]:
    names = [["j0", "j1", "j2", "j3"]]
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [4], "names": names},
        "action": {"dtype": "float32", "shape": [4], "names": {"motors": names[0]}},
    }
    kind = "video" if video else "image"
    return features | {name: {"dtype": kind, "shape": [32, 48, 3], "names": None} for name in cameras}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def make_v21(
    folder: Path, *, cameras: tuple[str, ...] = (CAMERA,), video: bool = True, seed: int = 0, black: str = ""
) -> Path:
    """Three episodes, a table and a video each; another seed gives other ones. Camera `black` has no light."""
    write_json(folder / "meta/info.json", _info("v2.1", _features(cameras, video)))
    _lines(folder / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(TASKS)])
    rows = [{"episode_index": i, "tasks": [TASKS[i % 2]], "length": n} for i, n in enumerate(LENGTHS)]
    _lines(folder / "meta/episodes.jsonl", rows)
    for number, frames in enumerate(LENGTHS):
        pictures = {name: moving_picture(frames, seed + 10 * number + k) for k, name in enumerate(cameras)}
        pictures |= {black: np.zeros_like(pictures[black])} if black else {}
        table = episode_table(number, frames, sum(LENGTHS[:number]), {} if video else pictures, seed)
        write_table(folder / f"data/chunk-000/episode_{number:06d}.parquet", table)
        for name, images in pictures.items() if video else ():
            write_video(folder / f"videos/chunk-000/{name}/episode_{number:06d}.mp4", images, FPS)
    return folder


def make_v30(folder: Path, *, camera: str = CAMERA, video: bool = True) -> Path:
    """The same three episodes in one table, of one row group, and one video."""
    write_json(folder / "meta/info.json", _info("v3.0", _features((camera,), video)))
    tasks = pa.table({"task_index": pa.array([0, 1], pa.int64()), "__index_level_0__": TASKS})
    write_table(folder / "meta/tasks.parquet", tasks)
    pictures = [moving_picture(frames, 10 * number) for number, frames in enumerate(LENGTHS)]
    tables, rows, start = [], [], 0
    for number, frames in enumerate(LENGTHS):
        tables.append(episode_table(number, frames, start, {} if video else {camera: pictures[number]}))
        row = {"episode_index": number, "tasks": [TASKS[number % 2]], "length": frames}
        row |= {"data/chunk_index": 0, "data/file_index": 0}
        row |= {"dataset_from_index": start, "dataset_to_index": start + frames}
        if video:
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0}
            row |= {
                f"videos/{camera}/from_timestamp": start / FPS,
                f"videos/{camera}/to_timestamp": (start + frames) / FPS,
            }
        rows.append(row)
        start += frames
    write_table(folder / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
    write_table(folder / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    if video:
        write_video(folder / f"videos/{camera}/chunk-000/file-000.mp4", np.concatenate(pictures), FPS)
    return folder


def reader_of(folder: Path, *mapping: str, embodiment: Embodiment | None = None, **options: Any) -> SourceReader:
    """A dataset as `posa data ingest` reads it."""
    source = open_source(folder)
    features = map_features(source, parse_map(list(mapping)), embodiment)
    return require_fit(SourceReader(source, features, embodiment or derived_embodiment(source, features), **options))


def add_column(folder: Path, name: str, values: Any, dtype: str = "", shape: tuple[int, ...] = (1,)) -> None:
    """Gives every row of every table one more column: `values` is a number, a list, or a function of the frame."""
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        rows = [values(frame) if callable(values) else values for frame in range(len(table))]
        write_table(path, table.append_column(name, pa.array(rows)))
    if dtype:
        features = json.loads((folder / "meta/info.json").read_text())["features"]
        edit_info(folder, features=features | {name: {"dtype": dtype, "shape": list(shape), "names": None}})


def edit_rows(path: Path, change: Any) -> None:
    """Rewrites a table, row by row: `change` is handed each row as a dict, with its number."""
    rows = pq.read_table(path).to_pylist()
    for number, row in enumerate(rows):
        change(number, row)
    pq.write_table(pa.Table.from_pylist(rows), path)


def edit_info(folder: Path, **changes: Any) -> None:
    """Changes keys of info.json; None removes one."""
    path = folder / "meta/info.json"
    info = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))
