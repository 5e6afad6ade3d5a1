"""Training steps per second on a CPU: by arrangement and arithmetic, and what input and Ray take of them.

    python benchmarks/training.py [--quick] [--json]

All arrangements take the same global batch of preset `small` through the same data; workers average their gradients
over gloo, as under Ray Train. Two more runs have the arrangement and the arithmetic that the preset has on this
machine: pure compute, which is the same loop on one batch that is kept in memory, and the same training as a job of a
local Ray cluster. All of them are timed in rounds that take turns, so that a machine that slows down slows all of them
down; the shares are medians over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from posa_vla.console import print_json, print_table, progress, reserved_stdout
from posa_vla.params import Params

ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "2 workers x 1 thread, bf16": {"workers": 2, "threads": 1, "precision": "bf16"},
    "1 worker x 2 threads, bf16": {"workers": 1, "threads": 2, "precision": "bf16"},
    "2 workers x 1 thread, fp32": {"workers": 2, "threads": 1, "precision": "fp32"},
    "1 worker x 2 threads, fp32": {"workers": 1, "threads": 2, "precision": "fp32"},
}
# Steps before the clock starts: memory and kernels are made ready in them.
WARM = 10
PRESET, PURE, RAY = "as the preset", "pure compute", "on Ray"


def _params(arrangement: dict[str, Any], steps: int) -> Params:
    from posa_vla.params import TargetParams, TrainParams

    train = TrainParams(anchor_only_steps=0, steps=steps, **arrangement)
    return Params(target="t", targets={"t": TargetParams(embodiment="sim_arm6", task="pick")}, train=train)


def _worker(rank: int, folder: str, arrangement: dict[str, Any], steps: int, pure: bool) -> None:
    import torch
    from torch import distributed

    from posa_vla.training import loop

    params = _params(arrangement, WARM + steps)
    workers = params.train.workers
    torch.set_num_threads(params.train.threads)
    rendezvous = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=workers)
    wrap: dict[str, Any] = {} if workers == 1 else {"distribute": torch.nn.parallel.DistributedDataParallel}
    trainer = loop.Trainer(Path(folder) / "data", params, rank=rank, world=workers, **wrap)
    if pure:
        batch = trainer.train_data.sample(trainer.sampler.indices(0))
        trainer.train_data.sample = lambda indices: batch  # type: ignore[method-assign]  # no input
        vars(loop)["augment"] = lambda same, *_, **__: same
    rows = []
    for _ in range(WARM):
        trainer.advance()
    distributed.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        rows.append(trainer.advance())
    seconds = time.perf_counter() - start
    if rank == 0:
        shares = [row["input_share"] for row in rows if row is not None]
        (Path(folder) / "told").write_text(f"{steps / seconds} {statistics.mean(shares)}", encoding="utf-8")
    distributed.destroy_process_group()


def _processes(folder: Path, arrangement: dict[str, Any], steps: int, *, pure: bool = False) -> tuple[float, float]:
    """Steps a second of a training in processes of its own, and the share that the loop says its input takes."""
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(rank, str(folder), arrangement, steps, pure), daemon=True)
        for rank in range(arrangement.get("workers", _params({}, 1).train.workers))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed, see above")
    (folder / "rendezvous").unlink(missing_ok=True)
    rate, share = (folder / "told").read_text(encoding="utf-8").split()
    return float(rate), float(share)


def _on_ray(folder: Path, steps: int, number: int) -> float:
    """Steps a second of a training on Ray.

    It leaves rows of metrics every ten steps, or every two seconds. The times are those at which they were left; the
    last one comes with the validation, and does not count.
    """
    from posa_vla.dataset.shards.manifest import MANIFEST
    from posa_vla.files import sha256_file
    from posa_vla.objects.open import open_objects
    from posa_vla.ray_jobs import open_jobs
    from posa_vla.settings import Settings
    from posa_vla.training.storage import metrics_paths
    from posa_vla.training.submit import train_as_job

    objects, key = open_objects(str(folder / "store")), f"round-{number}"
    params = _params({}, WARM + steps + 10)
    version = sha256_file(folder / "data" / MANIFEST)
    with open_jobs(Settings(), at_least=params.train.processors) as jobs:
        train_as_job(jobs, objects, folder / "data", version, params, key, folder, lambda step, metrics: None)
    left = {int(Path(path).stem): (folder / "store" / path).stat().st_mtime for path in metrics_paths(objects, key)}
    if len(left) < 3:
        raise SystemExit(
            f"{params.train.steps} steps leave {len(left)} times on this machine, expected 3: give no --quick"
        )
    first, *_, last, _ = sorted(left)
    return (last - first) / (left[last] - left[first])


def _prepare(folder: Path) -> None:
    from posa_vla.dataset.shards.pack import pack_episodes
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.params import CollectParams, PrepareParams
    from posa_vla.sim.collect import collect

    episodes = collect("sim_arm6", "pick", CollectParams(episodes=24), folder / "parts")
    pack_episodes(episodes, load_embodiment("sim_arm6"), PrepareParams(), folder / "data")


def _instructions() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def measure(quick: bool) -> dict[str, Any]:
    """Steps per second of each arrangement: median over rounds, and the ratio to the first."""
    rounds, steps = (2, 30) if quick else (5, 60)
    rates: dict[str, list[float]] = {name: [] for name in (*ARRANGEMENTS, PRESET, PURE, RAY)}
    shares = []
    with tempfile.TemporaryDirectory() as name, progress("measure", rounds * len(rates), unit="runs") as advance:
        folder = Path(name)
        _prepare(folder)
        for number in range(rounds):
            for label, arrangement in ARRANGEMENTS.items():
                rates[label].append(_processes(folder, arrangement, steps)[0])
                advance(1)
            rate, share = _processes(folder, {}, steps)
            rates[PRESET].append(rate)
            shares.append(share)
            advance(1)
            rates[PURE].append(_processes(folder, {}, steps, pure=True)[0])
            advance(1)
            rates[RAY].append(_on_ray(folder, steps, number))
            advance(1)
    medians = {label: statistics.median(values) for label, values in rates.items()}
    first = medians[next(iter(ARRANGEMENTS))]
    of_pure = [rate / pure for rate, pure in zip(rates[PRESET], rates[PURE], strict=True)]
    ray = [1 - there / here for there, here in zip(rates[RAY], rates[PRESET], strict=True)]
    return {
        "batch": _params({}, 1).train.batch,
        "rounds": rounds,
        "steps_per_round": steps,
        "cores": os.cpu_count(),
        "instructions": _instructions(),
        "arrangements": {
            label: {"steps_per_s": round(value, 2), "of_the_first": round(value / first, 2)}
            for label, value in medians.items()
        },
        "share_of_pure_compute": round(statistics.median(of_pure), 3),
        "input_share": round(statistics.median(shares), 3),
        "ray_overhead": round(statistics.median(ray), 3),
    }


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with reserved_stdout() if arguments.json else nullcontext():
        result = measure(arguments.quick)
        if arguments.json:
            print_json(result)
            return
    rows = [
        (label, f"{row['steps_per_s']:.2f} steps/s, {row['of_the_first']:.2f} of the first")
        for label, row in result["arrangements"].items()
    ]
    rows.append(("of pure compute", f"{result['share_of_pure_compute']:.1%}; input takes {result['input_share']:.1%}"))
    rows.append(("Ray takes", f"{result['ray_overhead']:.1%}"))
    title = f"Training on {result['cores']} cores ({result['instructions']}), batch {result['batch']}"
    print_table(title, rows)


if __name__ == "__main__":
    main()
