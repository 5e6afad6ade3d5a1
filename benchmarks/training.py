"""Training steps per second on a CPU, by arrangement of workers and threads, and by arithmetic.

    python benchmarks/training.py [--quick] [--json]

All arrangements take the same global batch of preset `small` through the same data; workers average their gradients
over gloo, as under Ray Train. Each arrangement is timed in rounds that take turns, so that a machine that slows down
slows all of them down.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from posa_vla.console import print_json, print_table

ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "2 workers x 1 thread, bf16": {"workers": 2, "threads": 1, "precision": "bf16"},
    "1 worker x 2 threads, bf16": {"workers": 1, "threads": 2, "precision": "bf16"},
    "2 workers x 1 thread, fp32": {"workers": 2, "threads": 1, "precision": "fp32"},
    "1 worker x 2 threads, fp32": {"workers": 1, "threads": 2, "precision": "fp32"},
}


def _worker(rank: int, folder: str, arrangement: dict[str, Any], steps: int) -> None:
    import torch
    from torch import distributed

    from posa_vla.params import Params, TargetParams, TrainParams
    from posa_vla.training.loop import Trainer

    workers = arrangement["workers"]
    torch.set_num_threads(arrangement["threads"])
    train = TrainParams(anchor_only_steps=0, **arrangement)
    params = Params(target="t", targets={"t": TargetParams(embodiment="sim_arm6", task="pick")}, train=train)
    store = distributed.FileStore(f"{folder}/rendezvous", workers)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    wrap = torch.nn.parallel.DistributedDataParallel if workers > 1 else lambda module: module
    trainer = Trainer(Path(folder) / "data", params, rank=rank, world=workers, distribute=wrap)
    for _ in range(3):
        trainer.advance()
    distributed.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.advance()
    if rank == 0:
        (Path(folder) / "seconds").write_text(str(time.perf_counter() - start), encoding="utf-8")
    distributed.destroy_process_group()


def _prepare(folder: Path) -> None:
    from posa_vla.dataset.shards.pack import pack_episodes
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.params import CollectParams, PrepareParams
    from posa_vla.sim.collect import collect

    episodes = collect("sim_arm6", "pick", CollectParams(episodes=24), folder / "parts")
    pack_episodes(episodes, load_embodiment("sim_arm6"), PrepareParams(), folder / "data")


def measure(quick: bool) -> dict[str, Any]:
    """Steps per second of each arrangement: median over rounds, and the ratio to the first."""
    import torch.multiprocessing

    rounds, steps = (2, 8) if quick else (5, 25)
    rates: dict[str, list[float]] = {name: [] for name in ARRANGEMENTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        for _ in range(rounds):
            for label, arrangement in ARRANGEMENTS.items():
                torch.multiprocessing.spawn(_worker, (name, arrangement, steps), nprocs=arrangement["workers"])
                rates[label].append(steps / float((folder / "seconds").read_text(encoding="utf-8")))
                (folder / "rendezvous").unlink(missing_ok=True)
    medians = {label: statistics.median(values) for label, values in rates.items()}
    first = medians[next(iter(ARRANGEMENTS))]
    return {
        "batch": 64,
        "rounds": rounds,
        "steps_per_round": steps,
        "cores": os.cpu_count(),
        "arrangements": {
            label: {"steps_per_s": round(value, 2), "of_the_first": round(value / first, 2)}
            for label, value in medians.items()
        },
    }


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    result = measure(arguments.quick)
    if arguments.json:
        print_json(result)
        return
    rows = [
        (label, f"{row['steps_per_s']:.2f} steps/s, {row['of_the_first']:.2f} of the first")
        for label, row in result["arrangements"].items()
    ]
    print_table(f"Training on {result['cores']} cores, batch {result['batch']}", rows)


if __name__ == "__main__":
    main()
