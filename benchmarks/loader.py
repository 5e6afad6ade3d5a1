"""Samples a second with a chunk of 16 actions: our packed shards, against decoding the same data as LeRobot keeps it.

    python benchmarks/loader.py [--quick] [--json] [--lerobot-python PYTHON]

One core, random access, two cameras, the same episodes in one run: (1) packed shards through the training's own
sampler; (2) the PNGs of a LeRobot dataset v3.0, decoding the frame that is asked for; (3) the same, and every picture
of the chunk with it, which is what LeRobot 0.4 does with `delta_timestamps` on the action (17 decodes a sample and
camera); (4) the same episodes as AV1 and H.264 video, seeking and decoding with PyAV. `--lerobot-python` names an
interpreter that has the package `lerobot`: its own loader then reads dataset (2) in the same run. Augmentation costs
every loader the same; what is left of the advantage with it is the second ratio. At last, the loader's share of a
training step at preset `small`, augmentation included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

CHUNK, BATCH = 16, 64
ROLES = ("head", "wrist")
OURS = "packed shards"

# Run by the interpreter that has lerobot. torchvision without its compiled operators still imports once they are named.
_LEROBOT = """
import json, random, sys, time, torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    try: library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError: pass
import lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset
torch.set_num_threads(1)
root, chunk, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
fps = json.load(open(root + "/meta/info.json", encoding="utf-8"))["fps"]
data = LeRobotDataset("local/benchmark", root=root, delta_timestamps={"action": [i / fps for i in range(chunk)]})
draw, count = random.Random(0), 0
data[0]
start = time.perf_counter()
while time.perf_counter() - start < seconds:
    data[draw.randrange(len(data))]
    count += 1
print(json.dumps({"rate": count / (time.perf_counter() - start), "version": lerobot.__version__}))
"""


def _rate(sample: Callable[[], int], seconds: float) -> float:
    """Samples a second of a call that gives so many of them."""
    sample()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += sample()
    return count / (time.perf_counter() - start)


def _prepare(folder: Path, size: int, episodes: int) -> None:
    """The same episodes as packed shards, as a LeRobot dataset with PNGs, and as one video a codec."""
    import av

    from posa_vla.dataset.shards.pack import pack_episodes
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.episodes.lerobot.reader import write_dataset
    from posa_vla.params import CollectParams, PrepareParams
    from posa_vla.sim.collect import collect

    embodiment = load_embodiment("sim_arm6")
    found = list(collect("sim_arm6", "pick", CollectParams(episodes=episodes, image_size=size), folder / "parts"))
    params = PrepareParams(image_size=size, validation_fraction=0)
    pack_episodes(found, embodiment, params, folder / "packed")
    write_dataset(folder / "png", found, embodiment)
    codecs = {"libx264": {"g": "2"}, "libsvtav1": {"g": "2", "crf": "30", "preset": "12"}}
    for name, role in itertools.product(codecs, ROLES):
        with av.open(str(folder / f"{name}-{role}.mp4"), "w") as container:
            stream: Any = container.add_stream(name, rate=int(embodiment.control_hz), options=codecs[name])
            stream.height = stream.width = size
            stream.pix_fmt = "yuv420p"
            for episode in found:
                for image in episode.cameras[role].images:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    # SVT-AV1 gave root's thread real-time priority; what is measured next shall have none.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _packed(folder: Path, augmented: bool, seconds: float) -> float:
    import torch

    from posa_vla.dataset.shards.augment import augment
    from posa_vla.dataset.shards.loader import BatchSampler, PackedDataset
    from posa_vla.params import TrainParams

    data, params = PackedDataset(folder / "packed", "train", CHUNK), TrainParams()
    sampler, generator = BatchSampler(len(data), BATCH, seed=0), torch.Generator().manual_seed(0)
    steps = iter(range(10**9))

    def sample() -> int:
        batch = data.sample(sampler.indices(next(steps)))
        if augmented:
            augment(batch, generator, params.shift, params.jitter)
        return BATCH

    return _rate(sample, seconds)


def _stills(folder: Path, decodes: int, seconds: float) -> float:
    """PNGs out of memory-mapped tables: `decodes` of each camera a sample, and the chunk of actions."""
    import io
    import random

    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(folder / "png" / "data", memory_map=True, partitioning=None)
    pictures = [table[f"observation.images.{role}"].combine_chunks().field("bytes") for role in ROLES]
    action = np.array(table["action"].combine_chunks().flatten().to_numpy()).reshape(len(table), -1)
    draw = random.Random(0)

    def sample() -> int:
        first = draw.randrange(len(table))
        for row in range(first, min(first + decodes, len(table))):
            for column in pictures:
                np.asarray(Image.open(io.BytesIO(column[row].as_py())))
        action[first : first + CHUNK].copy()
        return 1

    return _rate(sample, seconds)


def _video(folder: Path, codec: str, seconds: float) -> float:
    """A frame of each camera at a random time: seek to the key frame before it, decode up to it."""
    import random

    import av

    draw = random.Random(0)
    with ExitStack() as stack:
        opened: list[Any] = [stack.enter_context(av.open(str(folder / f"{codec}-{role}.mp4"))) for role in ROLES]
        for container in opened:
            container.streams.video[0].thread_count = 1
        frames, fps = opened[0].streams.video[0].frames, float(opened[0].streams.video[0].average_rate)

        def sample() -> int:
            wanted = draw.randrange(frames) / fps
            for container in opened:
                stream = container.streams.video[0]
                container.seek(int(wanted / float(stream.time_base)), stream=stream)
                for frame in container.decode(stream):
                    if frame.time >= wanted - 0.5 / fps:
                        frame.to_ndarray(format="rgb24")
                        break
            return 1

        return _rate(sample, seconds)


def _lerobot(python: str, folder: Path, seconds: float) -> dict[str, Any]:
    command = [python, "-c", _LEROBOT, str(folder / "png"), str(CHUNK), str(seconds)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{python} could not read the dataset with lerobot:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _share(folder: Path, steps: int) -> float:
    """The loader's share of a training step at preset `small`, two threads."""
    import torch

    from posa_vla.dataset.shards.augment import augment
    from posa_vla.params import Params, TargetParams, TrainParams
    from posa_vla.training.loop import Trainer

    torch.set_num_threads(2)
    train = TrainParams(anchor_only_steps=0, workers=1, threads=2)
    target = {"t": TargetParams(embodiment="sim_arm6", task="pick")}
    trainer = Trainer(folder / "packed", Params(target="t", targets=target, train=train))
    for _ in range(3):
        trainer.advance()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.advance()
    whole = time.perf_counter() - start
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for step in range(steps):
        augment(trainer.train_data.sample(trainer.sampler.indices(step)), generator, train.shift, train.jitter)
    return (time.perf_counter() - start) / whole


def measure(quick: bool, lerobot: str | None) -> dict[str, Any]:
    """Runs everything; the ratios say how many times faster the packed shards are."""
    import torch

    seconds, episodes = (1.0, 24) if quick else (5.0, 120)
    result: dict[str, Any] = {"chunk": CHUNK, "batch": BATCH, "cores": os.cpu_count(), "sizes": {}}
    for size in (64, 128):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _prepare(folder, size, episodes)
            torch.set_num_threads(1)
            augmented = _packed(folder, True, seconds)
            rates = {
                OURS: _packed(folder, False, seconds),
                "PNG, one decode a sample": _stills(folder, 1, seconds),
                "PNG, the chunk's pictures too": _stills(folder, CHUNK + 1, seconds),
                "H.264 (g=2), PyAV": _video(folder, "libx264", seconds),
                "AV1 (g=2), PyAV": _video(folder, "libsvtav1", seconds),
            }
            if lerobot is not None:
                answer = _lerobot(lerobot, folder, seconds)
                rates[f"LeRobot {answer['version']}'s own loader, PNG"] = answer["rate"]
            ours = rates[OURS]
            added = 1 / augmented - 1 / ours  # seconds a sample that augmentation takes, whatever loads it
            result["sizes"][size] = {
                label: {
                    "samples_per_s": round(rate, 1),
                    "times_faster": round(ours / rate, 1),
                    "times_faster_with_augmentation": round((1 / rate + added) * augmented, 1),
                }
                for label, rate in rates.items()
            }
            result["sizes"][size][OURS]["augmented_samples_per_s"] = round(augmented, 1)
            if size == 64:
                result["share_of_step"] = round(_share(folder, 10 if quick else 30), 4)
    return result


def main() -> None:
    """Prints the tables, or one JSON document."""
    from posa_vla.console import print_json, print_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data and shorter measurements")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--lerobot-python", metavar="PYTHON", help="interpreter that has the package lerobot")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    result = measure(arguments.quick, arguments.lerobot_python)
    if arguments.json:
        print_json(result)
        return
    for size, rates in result["sizes"].items():
        rows = [
            (
                label,
                f"{row['samples_per_s']:>9,.0f} samples/s   packed is {row['times_faster']:.1f} x as fast, "
                f"{row['times_faster_with_augmentation']:.1f} x with augmentation",
            )
            for label, row in rates.items()
            if label != OURS
        ]
        first = rates[OURS]
        told = f"{first['samples_per_s']:>9,.0f} samples/s, {first['augmented_samples_per_s']:,.0f} augmented"
        print_table(f"{size} x {size} pixels, 2 cameras, chunks of {CHUNK} actions, one core", [(OURS, told), *rows])
    print_table("preset small, batch 64", [("the loader's share of a step", f"{100 * result['share_of_step']:.1f} %")])


if __name__ == "__main__":
    main()
