"""Speed and peak memory of taking in, judging and packing recordings.

    python benchmarks/data.py [--quick] [--json]

Validates and packs 1,000 synthetic episodes (270,000 frames, one camera of 64 x 64 pixels), and ingests LeRobot
datasets v2.1 of 1,000 and of 10,000 short episodes: memory must not grow with their number. Each step is a process of
its own, whose peak memory the kernel has counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.schema import parse

FRAMES = 270


def _embodiment() -> Embodiment:
    channels = [{"name": f"joint_{n}", "unit": "rad", "low": -3, "high": 3} for n in range(7)]
    value = {"id": "bench", "simulated": True, "cameras": {"head": {"source": "head"}}, "state": channels}
    return parse(Embodiment, {**value, "action": channels, "action_frame": "joint", "control_hz": 30}, "benchmark")


def _episodes(count: int, frames: int, size: int) -> Iterator[Episode]:
    """Smooth joint paths, and a square that moves before a still background with sensor noise."""
    for number in range(count):
        rng = np.random.default_rng(number)
        path = np.sin(rng.uniform(0, 6, 7) + np.arange(frames + 1)[:, None] * rng.uniform(0.01, 0.05, 7))
        images = np.tile(rng.integers(40, 200, (size, size, 3), dtype=np.uint8), (frames, 1, 1, 1))
        images[:, ::4] += rng.integers(0, 8, images[:, ::4].shape, dtype=np.uint8)
        for frame in range(frames):
            left = int((path[frame, 0] + 1) / 2 * (size - size // 8))
            images[frame, size // 2 : size // 2 + size // 8, left : left + size // 8] = 255
        state, action = path[:-1].astype(np.float32), path[1:].astype(np.float32)
        yield Episode("bench", "follow the square", "sim", True, 30.0, {"head": CameraTrack(images)}, state, action)


def _v21(folder: Path, count: int, frames: int, size: int) -> None:
    """A dataset as the robots of others write it: a table an episode, pictures in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from posa_vla.episodes.media.stills import encode_png

    (folder / "meta").mkdir(parents=True)
    names = [f"joint_{n}" for n in range(7)]
    vector = {"dtype": "float32", "shape": [7], "names": names}
    image = {"dtype": "image", "shape": [size, size, 3], "names": None}
    features = {"observation.state": vector, "action": vector, "observation.images.head": image}
    info = {"codebase_version": "v2.1", "fps": 30, "total_episodes": count, "chunks_size": 1000, "features": features}
    (folder / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
    with (folder / "meta/episodes.jsonl").open("w", encoding="utf-8") as listed:
        for number, episode in enumerate(_episodes(count, frames, size)):
            row = {"episode_index": number, "tasks": [episode.instruction], "length": frames}
            listed.write(json.dumps(row) + "\n")
            pictures = [{"bytes": encode_png(i), "path": None} for i in episode.cameras["head"].images]
            table = pa.table(
                {
                    "observation.state": pa.array(episode.state.tolist(), pa.list_(pa.float32())),
                    "action": pa.array(episode.action.tolist(), pa.list_(pa.float32())),
                    "observation.images.head": pa.array(pictures),
                    "episode_index": pa.array([number] * frames, pa.int64()),
                }
            )
            path = folder / f"data/chunk-{number // 1000:03d}/episode_{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)


def _do(step: str, folder: Path) -> None:
    """One step, in this process."""
    from posa_vla.dataset.exchange.ingest import ingest
    from posa_vla.dataset.shards.prepare import prepare
    from posa_vla.dataset.validation.report import read_report
    from posa_vla.dataset.validation.validate import validate
    from posa_vla.episodes.foreign.dataset import open_source
    from posa_vla.episodes.foreign.fit import require_fit
    from posa_vla.episodes.foreign.mapping import derived_embodiment, map_features
    from posa_vla.episodes.foreign.reader import SourceReader
    from posa_vla.episodes.store.episode_store import EpisodeStore
    from posa_vla.files import write_json
    from posa_vla.params import PrepareParams

    if step == "validate":
        write_json(folder / "report.json", validate(folder / "store").model_dump(mode="json"))
    elif step == "pack":
        report = read_report(folder / "report.json")
        prepare(folder / "store", report, _embodiment(), PrepareParams(), folder / "packed")
    else:
        source = open_source(folder / step)
        features = map_features(source, {}, None)
        reader = require_fit(SourceReader(source, features, derived_embodiment(source, features)))
        done = ingest(EpisodeStore(folder / f"{step}-store"), reader)
        if done.new != len(list(source.episodes())):
            raise SystemExit(f"{done.new} episodes came in, expected all of them")


def _timed(step: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a step in a process of its own."""
    program = f"import benchmarks.data as b, pathlib; b._do({step!r}, pathlib.Path({str(folder)!r}))"
    program += "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    start = time.perf_counter()
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) * 1024 / 1e9  # Linux counts in KiB


def measure(quick: bool) -> dict[str, Any]:
    """Runs every step."""
    from posa_vla.episodes.store.episode_store import EpisodeStore

    episodes, several = (50, (100, 1000)) if quick else (1000, (1000, 10_000))
    result: dict[str, Any] = {"episodes": episodes, "frames": episodes * FRAMES, "cores": os.cpu_count(), "steps": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        EpisodeStore(folder / "store").append(_episodes(episodes, FRAMES, 64), _embodiment())
        files = sum(path.is_file() for path in (folder / "store").rglob("*"))
        result["objects_per_million_frames"] = round(files * 1e6 / (episodes * FRAMES))
        for step in ("validate", "pack"):
            seconds, memory = _timed(step, folder)
            result["steps"][step] = {
                "seconds": round(seconds, 1),
                "frames_per_s": round(episodes * FRAMES / seconds),
                "peak_memory_gb": round(memory, 2),
            }
        for count in several:
            _v21(folder / f"ingest-{count}", count, 10, 32)
            seconds, memory = _timed(f"ingest-{count}", folder)
            result["steps"][f"ingest {count} episodes of 10 frames"] = {
                "seconds": round(seconds, 1),
                "episodes_per_s": round(count / seconds, 1),
                "peak_memory_gb": round(memory, 2),
            }
    return result


def main() -> None:
    """Prints the table, or one JSON document."""
    from posa_vla.console import print_json, print_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer episodes")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    result = measure(arguments.quick)
    if arguments.json:
        print_json(result)
        return
    rows = [(step, ", ".join(f"{k}: {v:,}" for k, v in row.items())) for step, row in result["steps"].items()]
    rows.append(("objects per million frames", f"{result['objects_per_million_frames']:,}"))
    print_table(f"{result['episodes']:,} episodes, {result['frames']:,} frames, one core", rows)


if __name__ == "__main__":
    main()
