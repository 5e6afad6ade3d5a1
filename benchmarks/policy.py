"""How fast a policy answers and trains: presets `small` and `paper`, against the loop that encodes at every flow step.

    python benchmarks/policy.py [--quick] [--json] [--device cpu|cuda]

Both networks have random weights and the shipped simulated arm's interface (two cameras); `paper` has the architectures
of CLIP ViT-B/16 and DINOv2-base in their real sizes, built without a hub, and word pieces of the benchmark's own
instructions instead of CLIP's. A chunk is measured through `PosAPolicy.act`, images in the host's memory to actions in
physical units: what a robot runs, its instruction's text features met before. The naive loop is the same network, which
encodes images, state and texts again at every flow step; that it gives the same actions is checked. Both take turns, so
that a machine that slows down slows both down, and the ratio is that of their medians; on a CPU the ratio of the
thread's own time is told too, in which waiting for other processes does not count.

On the CPU everything is fp32 in one thread but the training, which is as preset and processor have it. On a GPU it is
bf16 autocast and `torch.compile`. An executed action costs the chunk's time over the actions that are executed of it:
all of them, as many as the evaluation executes, or one. Training is forward and backward pass of the whole objective on
synthetic samples, clipping and optimiser step; the loader and the moving average are not in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from random_policies import NaivePolicy, make_model, observations, samples

from posa_vla.console import print_json, print_table, reserved_stdout, say
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, PosaError
from posa_vla.model.losses import Objective
from posa_vla.model.posa import PosA
from posa_vla.model.posa_policy import PosAPolicy
from posa_vla.params import Params
from posa_vla.params_file import load_params
from posa_vla.policy.made_for import made_for
from posa_vla.policy.policy import Observation

ROOT = Path(__file__).parents[1]
T = TypeVar("T")
# What the paper reports: per executed action on an RTX 4090, and for 200k steps at batch 16 on an A100.
PAPER_MS_PER_ACTION, PAPER_HOURS, PAPER_STEPS, PAPER_BATCH = 24.5, 20.0, 200_000, 16
# Largest difference of the two loops' actions, as a share of the channel's range.
TOLERANCE = {"cpu": 1e-4, "cuda": 3e-2}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Single chunks.
        every: The naive loop takes part in every so-manieth round.
        batch: Chunks at once, for the throughput.
        batched: Batches.
        steps: Optimiser steps; none are measured for 0.
    """

    rounds: int
    every: int
    batch: int
    batched: int
    steps: int


# On a CPU, quick or not: `paper` takes seconds a chunk there and minutes an optimiser step.
EFFORT = {
    ("small", True): Effort(rounds=100, every=2, batch=8, batched=10, steps=5),
    ("small", False): Effort(rounds=1000, every=5, batch=8, batched=50, steps=30),
    ("paper", True): Effort(rounds=2, every=2, batch=2, batched=1, steps=0),
    ("paper", False): Effort(rounds=20, every=10, batch=8, batched=2, steps=1),
}
GPU_EFFORT = {
    True: Effort(rounds=100, every=5, batch=8, batched=20, steps=10),
    False: Effort(rounds=1000, every=10, batch=8, batched=100, steps=50),
}


def _timed(call: Callable[[], T], clock: Callable[[], float] = time.perf_counter) -> tuple[float, T]:
    """Milliseconds, and the result, which is in the host's memory by then."""
    start = clock()
    result = call()
    return (clock() - start) * 1e3, result


def _chunks(preset: str, params: Params, device: str, effort: Effort) -> dict[str, Any]:
    """Latency and throughput of a preset, and what the naive loop takes."""
    embodiment = load_embodiment("sim_arm6")
    model, units = make_model(params, embodiment)
    way = made_for(params, params.model.flow_steps)
    made = (model, units, embodiment, "0" * 64, way)
    fast, naive = (kind(*made).to(torch.device(device)) for kind in (PosAPolicy, NaivePolicy))
    single, several = observations(fast, 1), observations(fast, effort.batch)
    low, high = embodiment.action_limits()
    times: dict[str, list[float]] = {"fast": [], "naive": []}
    own: dict[str, list[float]] = {"fast": [], "naive": []}  # ms of this thread
    apart = 0.0
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        compiled = _compile(model, fast, single) if device == "cuda" else None
        fast.act(single)
        for number in range(effort.rounds):
            took, (busy, chunk) = _timed(lambda: _timed(partial(fast.act, single), time.thread_time))
            times["fast"].append(took)
            own["fast"].append(busy)
            if number % effort.every == 0:
                took, (busy, other) = _timed(lambda: _timed(partial(naive.act, single), time.thread_time))
                times["naive"].append(took)
                own["naive"].append(busy)
                apart = max(apart, float((np.abs(chunk.actions - other.actions) / (high - low)).max()))
        if not apart <= TOLERANCE[device]:
            raise PosaError(
                f"preset {preset}: the naive loop's actions differ by {apart:.2g} of a channel's range, "
                f"expected at most {TOLERANCE[device]:g}: the two figures are not of the same network"
            )
        if device == "cuda":
            fast.act(several)  # another size compiles once more
        batched = statistics.median(_timed(lambda: fast.act(several))[0] for _ in range(effort.batched))
    median, slow = (statistics.median(times[name]) for name in ("fast", "naive"))
    busy, slow_busy = (statistics.median(own[name]) for name in ("fast", "naive"))
    alone = {"chunk_cpu_ms_p50": round(busy, 2), "speedup_in_cpu_time": round(slow_busy / busy, 2)}
    horizon = params.model.horizon
    executed = sorted({1, min(way.execute, horizon), horizon})
    return {
        "chunk_ms_p50": round(median, 2),
        "chunk_ms_p99": round(float(np.percentile(times["fast"], 99)), 2),
        "chunks_per_second": round(effort.batch * 1e3 / batched, 2),
        "batch": effort.batch,
        "speedup_vs_naive": round(slow / median, 2),
        "naive_ms_p50": round(slow, 2),
        **(alone if device == "cpu" else {}),
        "largest_difference": float(f"{apart:.2g}"),
        "measured": {name: len(values) for name, values in times.items()},
        "flow_steps": way.flow_steps,
        "horizon": horizon,
        "ms_per_executed_action": {str(count): round(median / count, 2) for count in executed},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({} if compiled is None else {"compile": compiled}),
    }


def _compile(model: PosA, policy: PosAPolicy, batch: Sequence[Observation]) -> dict[str, Any]:
    """Compiles encoding and integration; where that fails, the model is as before and the reason is told."""
    start = time.perf_counter()
    before = model.observe, model.flow.at
    # Of one flow step rather than of the integration: a graph that is compiled once serves all steps.
    model.observe = torch.compile(model.observe)  # type: ignore[method-assign]  # of this one model
    model.flow.at = torch.compile(model.flow.at)  # type: ignore[method-assign]  # likewise
    try:
        policy.act(batch)
    except Exception as error:  # of whatever compiler there is, or is not
        model.observe, model.flow.at = before  # type: ignore[method-assign]  # as it was
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    return {"seconds": round(time.perf_counter() - start, 1)}


def _compiled_small(params: Params, rounds: int) -> dict[str, Any]:
    """Whether `torch.compile` pays on a CPU for `small`."""
    embodiment = load_embodiment("sim_arm6")
    (model, units), (other, _) = make_model(params, embodiment), make_model(params, embodiment)
    way = made_for(params, params.model.flow_steps)
    eager, compiled = (PosAPolicy(m, units, embodiment, "0" * 64, way) for m in (model, other))
    single = observations(eager, 1)
    result = _compile(other, compiled, single)
    if "failed" in result:
        return result
    policies = (eager, compiled)
    times = [[_timed(partial(policy.act, single))[0] for policy in policies] for _ in range(rounds)]
    plain, faster = (statistics.median(column) for column in zip(*times[5:], strict=True))
    return {**result, "chunk_ms_p50": round(faster, 2), "speedup_vs_eager": round(plain / faster, 2)}


def _training(params: Params, device: torch.device, steps: int) -> dict[str, Any]:
    """Optimiser steps of a preset at its own batch."""
    from posa_vla.training.loop import low_precision

    chosen = params.train
    model = make_model(params, load_embodiment("sim_arm6"))[0].to(device)
    objective = Objective(model, alpha=chosen.anchor_alpha, anchor_weight=chosen.anchor_weight, draws=chosen.flow_draws)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    bf16, generator = low_precision(chosen, device), torch.Generator().manual_seed(0)
    batch = samples(model, chosen.batch, device)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = objective(*batch, generator, False)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(loss.detach())  # waits for the device

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step()
    seconds = statistics.median(_timed(step)[0] for _ in range(steps)) / 1e3
    rate = chosen.batch / seconds
    result: dict[str, Any] = {
        "samples_per_second": float(f"{rate:.4g}"),
        "batch": chosen.batch,
        "steps_measured": steps,
        "precision": "bf16" if bf16 else "fp32",
        "peak_memory_gb": round(_peak_bytes(device) / 1e9, 2),
    }
    if chosen.steps == PAPER_STEPS and chosen.batch == PAPER_BATCH:
        result["projected_hours"] = round(PAPER_STEPS * seconds / 3600, 1)
    return result


def _peak_bytes(device: torch.device) -> int:
    """On a GPU what tensors took; on a CPU what this process took at its highest, everything before included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _machine(device: str) -> dict[str, Any]:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "device": device,
        "name": torch.cuda.get_device_name() if device == "cuda" else (names or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "precision": "bf16" if device == "cuda" else "fp32",
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def measure(quick: bool, device: str) -> dict[str, Any]:
    """Runs everything; what is not measured is not in the result."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch finds no GPU here; expected --device cpu")
    if device == "cpu":
        torch.set_num_threads(1)
    result: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for preset in ("small", "paper"):
        say(f"preset {preset}")
        params = load_params(ROOT / "params.yaml", preset)
        effort = GPU_EFFORT[quick] if device == "cuda" else EFFORT[preset, quick]
        result[preset] = _chunks(preset, params, device, effort)
        if effort.steps:
            training[preset] = _training(params, torch.device(device), effort.steps)
        if preset == "small" and device == "cpu" and not quick:
            result[preset]["compile"] = _compiled_small(params, effort.rounds // 5)
    return {**result, "training": training, "machine": _machine(device)}


def _thread(row: dict[str, Any]) -> list[tuple[str, str]]:
    if "chunk_cpu_ms_p50" not in row:
        return []
    return [("in the thread's own time", f"{row['chunk_cpu_ms_p50']:g} ms, {row['speedup_in_cpu_time']:g} x as long")]


def _rows(row: dict[str, Any]) -> list[tuple[str, str]]:
    measured = row["measured"]
    worst = "p99" if measured["fast"] >= 100 else f"worst of {measured['fast']}"
    per_action = ", ".join(f"{ms:g} ms of {count}" for count, ms in row["ms_per_executed_action"].items())
    rows = [
        (
            f"a chunk of {row['horizon']} actions",
            f"{row['chunk_ms_p50']:g} ms (p50), {row['chunk_ms_p99']:g} ms ({worst})",
        ),
        (f"chunks in batches of {row['batch']}", f"{row['chunks_per_second']:g} a second"),
        (
            f"encoding at each of {row['flow_steps']} flow steps",
            f"{row['naive_ms_p50']:g} ms (p50 of {measured['naive']}): {row['speedup_vs_naive']:g} x as long, actions "
            f"differ by {row['largest_difference']:.1g} of their range",
        ),
        *_thread(row),
        ("an action, by those executed", per_action),
    ]
    compiled = row.get("compile")
    if compiled is not None and "failed" in compiled:
        rows.append(("torch.compile", f"failed, figures are without it: {compiled['failed']}"))
    elif compiled is not None:
        gain = f", {compiled['speedup_vs_eager']:g} x as fast after it" if "speedup_vs_eager" in compiled else ""
        rows.append(("torch.compile", f"{compiled['seconds']:g} s{gain}"))
    return rows


def main() -> None:
    """Prints the tables, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="fewer measurements; no compilation, no training of `paper`"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with reserved_stdout() if arguments.json else nullcontext():
            result = measure(arguments.quick, arguments.device)
            if arguments.json:
                print_json(result)
                return
    except PosaError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    machine = result["machine"]
    where = f"{machine['name']}, {machine['precision']}, {machine['threads']} thread(s)"
    for preset in ("small", "paper"):
        rows = _rows(result[preset])
        if preset == "paper" and arguments.device == "cuda":
            rows.append(("the paper's figure", f"{PAPER_MS_PER_ACTION} ms an executed action on an RTX 4090"))
        print_table(f"preset {preset} on {where}", rows)
    rows = []
    for preset, row in result["training"].items():
        told = f"{row['samples_per_second']:g} samples/s in {row['precision']}, at most {row['peak_memory_gb']:g} GB"
        if "projected_hours" in row:
            told += f"; {PAPER_STEPS:,} steps in {row['projected_hours']:g} h (the paper: {PAPER_HOURS:g} h on an A100)"
        rows.append((f"{preset}, batch {row['batch']}", told))
    print_table("training", rows)


if __name__ == "__main__":
    main()
