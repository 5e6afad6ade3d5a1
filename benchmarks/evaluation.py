"""Episodes per second of evaluating and of collecting: in one process and in two, batched and one by one.

    python benchmarks/evaluation.py [--quick] [--json]

The shipped small policy runs in the simulator. One process and two take turns in pairs, and each figure is the median
over the pairs, so that a machine that slows down slows all of them down. A plain NumPy loop says what a second process
is worth on this machine at best: where it does not reach 1.9, the shares of it are what to look at.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from posa_vla.console import print_json, print_table, progress

CHECKPOINTS = Path(__file__).parents[1] / "docs" / "results" / "small"
# What is done in a process: name -> scenes that it does in one go (of the NumPy loop: rounds).
WORK = {"evaluate": 24, "evaluate one by one": 24, "collect": 24, "numpy": 40}


def _jobs() -> dict[str, Callable[[int], None]]:
    """The work of a process, with all that it needs made already."""
    import numpy as np

    from posa_vla.evaluation.environments import TOGETHER
    from posa_vla.evaluation.rollout import run_episodes
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.params import CollectParams, EvaluateParams
    from posa_vla.release.bundle import verify_bundle
    from posa_vla.seeds import TUNING_SEEDS
    from posa_vla.sim.demonstration import demonstrate
    from posa_vla.sim.environment import make_environment

    (folder,) = (path for path in CHECKPOINTS.iterdir() if path.is_dir())
    verify_bundle(folder, folder.name)
    policy = load_policy(folder, folder.name, threads=1)
    params = EvaluateParams()
    environments = [
        make_environment("sim_arm6", "pick", image_size=64, objects=params.objects, max_steps=params.max_steps)
        for _ in range(TOGETHER)
    ]

    def evaluate(count: int, together: int) -> None:
        done = run_episodes(policy, environments[:together], TUNING_SEEDS[:count], params)
        if len(list(done)) != count:
            raise SystemExit("an episode is missing")

    def collect(count: int) -> None:
        for seed in range(count):
            demonstrate(environments[0], seed, CollectParams().noise)

    def numpy_loop(rounds: int) -> None:
        values = np.linspace(0, 1, 10_000)
        for _ in range(rounds * 400):
            values = np.sqrt(values * 1.0001 + 1e-3)

    return {
        "evaluate": lambda count: evaluate(count, TOGETHER),
        "evaluate one by one": lambda count: evaluate(count, 1),
        "collect": collect,
        "numpy": numpy_loop,
    }


def _serve(link: Connection) -> None:
    """Does what it is told, until it is told nothing more."""
    jobs = _jobs()
    link.send("ready")
    while (told := link.recv()) is not None:
        name, count = told
        jobs[name](count)
        link.send("done")


def _seconds(links: list[Connection], name: str, count: int) -> float:
    start = time.perf_counter()
    for link in links:
        link.send((name, count))
    for link in links:
        link.recv()
    return time.perf_counter() - start


def measure(quick: bool) -> dict[str, Any]:
    """Medians over pairs of turns."""
    pairs = 3 if quick else 5
    context = multiprocessing.get_context("spawn")
    links, processes = [], []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        links.append(here)
        processes.append(process)
    for link in links:
        link.recv()
    rates: dict[str, list[float]] = {name: [] for name in WORK}
    ratios: dict[str, list[float]] = {name: [] for name in WORK}
    with progress("measure", pairs * len(WORK), unit="pairs") as advance:
        for _ in range(pairs):
            for name, count in WORK.items():
                one = _seconds(links[:1], name, count)
                two = _seconds(links, name, count)
                rates[name].append(count / one)
                ratios[name].append(2 * one / two)
                advance(1)
    for link, process in zip(links, processes, strict=True):
        link.send(None)
        process.join()
    limit = statistics.median(ratios["numpy"])
    batched = [a / b for a, b in zip(rates["evaluate"], rates["evaluate one by one"], strict=True)]
    return {
        "cores": os.cpu_count(),
        "pairs": pairs,
        "episodes_per_s": {n: round(statistics.median(r), 1) for n, r in rates.items() if n != "numpy"},
        "two_processes": {name: round(statistics.median(values), 2) for name, values in ratios.items()},
        "of_what_numpy_gains": {
            name: round(statistics.median(values) / limit, 2) for name, values in ratios.items() if name != "numpy"
        },
        "batched_over_one_by_one": round(statistics.median(batched), 2),
    }


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three pairs instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    # Of this process's children: what the product's own workers have.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    result = measure(arguments.quick)
    if arguments.json:
        print_json(result)
        return
    rows = [
        (name, f"{rate} episodes/s in one process, two do {result['two_processes'][name]} times as many")
        for name, rate in result["episodes_per_s"].items()
    ]
    rows.append(("a plain NumPy loop", f"two processes do {result['two_processes']['numpy']} times as much"))
    rows.append(("batched over one by one", f"{result['batched_over_one_by_one']} times"))
    print_table(f"Evaluating and collecting on {result['cores']} cores", rows)


if __name__ == "__main__":
    main()
