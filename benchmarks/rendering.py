"""Speed of the simulator on one core: frames a second of each camera and size, control steps, demonstrations.

Usage: python benchmarks/rendering.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from posa_vla.console import print_json, print_table
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import make_environment


def rate(work: Callable[[], object], seconds: float) -> float:
    """Calls a second of `work`, timed for at least `seconds` after one call to warm up."""
    work()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return calls / (time.perf_counter() - start)


def measure(seconds: float) -> dict[str, Any]:
    """Runs every measurement for `seconds` each."""
    rendering = []
    for size in (64, 128, 224):
        environment = make_environment("sim_arm6", "pick", image_size=size, objects=3, max_steps=60)
        environment.reset(seed=0)
        simulation = environment.simulation
        for role, camera in environment.embodiment.cameras.items():
            draw = functools.partial(simulation.cameras.render, simulation.data, camera.source)
            frames = rate(draw, seconds)
            rendering.append({"camera": role, "image_size": size, "frames_per_second": round(frames, 1)})
        environment.close()
    environment = make_environment("sim_arm6", "pick", image_size=64, objects=3, max_steps=60)
    environment.reset(seed=0)
    still = np.array([0, 0, 0, 1], np.float32)
    control = rate(lambda: environment.simulation.apply(still), seconds)
    seeds = iter(range(2**31))
    episodes = rate(lambda: demonstrate(environment, next(seeds), 0.3), seconds)
    environment.close()
    return {
        "schema_version": 1,
        "gl": os.environ["MUJOCO_GL"],
        "rendering": rendering,
        "control_steps_per_second": round(control, 1),
        "demonstrations_per_second": round(episodes, 2),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="half a second a measurement instead of five")
    options = parser.parse_args()
    result = measure(0.5 if options.quick else 5.0)
    if options.json:
        print_json(result)
        return
    rows = [
        (f"{row['camera']}, {row['image_size']} px", f"{row['frames_per_second']:.0f} frames/s")
        for row in result["rendering"]
    ]
    rows.append(("control steps, no images", f"{result['control_steps_per_second']:.0f} /s"))
    rows.append(("demonstrations, 64 px, two cameras", f"{result['demonstrations_per_second']:.1f} /s"))
    print_table(f"Simulator on one core, {result['gl']}", rows)


if __name__ == "__main__":
    main()
