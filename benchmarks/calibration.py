"""How well cameras are found that nobody calibrated: from demonstrations alone, and from clicks.

    python benchmarks/calibration.py [--quick] [--json] [--cameras N] [--first SEED] [--jobs N] [--kept DIR]

Each of 100 random cameras looks at the test bench from somewhere else, with another lens. It sees 50 demonstrations of
pick-and-place at 640x480: with shadows, sensor noise, an exposure that drifts, and a second thing that moves through
the picture, compressed as H.264. Between the gripper's events, where nothing looks at it, the film stands still. What
`posa data calibrate` makes of joints and video is compared with the true camera on demonstrations that it has not seen.
Errors are shares of the image's longer side, over both anchors' points wherever they are in view.

- `usable`: share of the cameras that it gives; the others it refuses in words.
- `unannounced`: share of the cameras that it gives, and whose 90th percentile of errors is above 0.05.
- `median`, `p90`: of all errors of the cameras that it gives.

`clicked` is the same for ten clicks with 3 px of noise, one of them anywhere in the picture. Seeds below 1000 were used
to choose thresholds; these cameras begin at 10000. `--quick` is 5 cameras with 20 demonstrations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from calibrated_data import CLICK_NOISE, CLICKS
from filmed_bench import (
    HEIGHT,
    WIDTH,
    Camera,
    Demonstration,
    Film,
    Floats,
    demonstrations,
    points_of,
    random_camera,
    seen_changes,
)

from posa_vla.console import progress
from posa_vla.dataset.calibration.automatic import find_camera, moved_part
from posa_vla.dataset.calibration.clicks import camera_from_clicks
from posa_vla.dataset.calibration.fit import CameraFit
from posa_vla.episodes.embodiment import embodiment_file
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.files import read_json, write_json
from posa_vla.processes import dies_with_parent
from posa_vla.sim.environment import make_environment
from posa_vla.sim.gl import require_gl

# Demonstrations that a fit sees, and others that it is judged on.
SEEN, UNSEEN = 50, 20
CAMERAS, FIRST = 100, 10_000
# Seeds of scenes that a camera has for itself.
SCENES = 1000
TOO_FAR = 0.05


def errors_of(fit: CameraFit, camera: Camera, points: Floats) -> Floats:
    """How far the points are from where they are truly seen, shares of the longer side; those in view alone."""
    truth = camera.sees(points)
    away = np.linalg.norm(fit.pixels(points) - truth.pixels, axis=1)[truth.visible] / max(WIDTH, HEIGHT)
    errors: Floats = np.nan_to_num(away, nan=1.0)
    return errors


class Tally:
    """What became of cameras."""

    def __init__(self) -> None:
        self.cameras = self.usable = self.unannounced = 0
        self._errors: list[Floats] = []

    def add(self, errors: Floats | None) -> None:
        """Counts one camera, by the errors of what was given; None where it was refused."""
        self.cameras += 1
        if errors is None:
            return
        self.usable += 1
        self.unannounced += float(np.quantile(errors, 0.9)) > TOO_FAR
        self._errors.append(errors)

    def figures(self) -> dict[str, float | None]:
        """The benchmark's figures."""
        errors = np.concatenate(self._errors) if self._errors else None
        return {
            "cameras": self.cameras,
            "usable": self.usable / self.cameras,
            "unannounced": self.unannounced / self.cameras,
            "median": None if errors is None else float(np.median(errors)),
            "p90": None if errors is None else float(np.quantile(errors, 0.9)),
        }


def clicked(camera: Camera, points: Floats, rng: np.random.Generator) -> CameraFit | None:
    """What ten clicks give, one of them anywhere; None where the camera is refused or hardly sees the gripper."""
    seen = camera.sees(points)
    chosen = rng.permutation(np.flatnonzero(seen.visible))[:CLICKS]
    pixels = seen.pixels[chosen] + rng.normal(0, CLICK_NOISE, (len(chosen), 2))
    pixels[0] = rng.uniform([0, 0], [WIDTH, HEIGHT])
    found = camera_from_clicks(points[chosen], pixels, points, width=WIDTH, height=HEIGHT)
    return None if found.reasons else found.camera


def in_words(errors: Floats | None) -> str:
    """What became of a camera."""
    if errors is None:
        return "refused"
    return f"median {np.median(errors):.4f}, p90 {np.quantile(errors, 0.9):.4f}"


class Bench:
    """The test bench, in a process of its own where there are several.

    Args:
        first: Seed of the first camera.
    """

    def __init__(self, first: int) -> None:
        require_gl()
        self._first = first
        self._environment = make_environment("so101_bench", "pick_place", image_size=64, objects=2, max_steps=80)
        self._embodiment = self._environment.embodiment
        self._chain = ForwardKinematics(self._embodiment, embodiment_file(self._embodiment.id).parent)
        self._unseen = self._points(demonstrations(self._environment, itertools.count(first), UNSEEN))

    def _points(self, made: list[Demonstration]) -> Floats:
        return points_of([demonstration.episode for demonstration in made], self._embodiment)

    def camera(self, number: int, seen: int) -> tuple[Floats | None, Floats | None, str]:
        """Errors of one camera that is found from `seen` demonstrations, and clicked; None where refused; and words."""
        rng = np.random.default_rng([self._first, number])
        camera, start = random_camera(rng), time.perf_counter()
        looked_at = demonstrations(self._environment, itertools.count(self._first + SCENES * (number + 1)), seen)
        film = Film(self._environment.simulation, camera, rng)
        with tempfile.TemporaryDirectory() as folder:
            changes = seen_changes(film, looked_at, self._embodiment, Path(folder))
        film.close()
        offset, reach = moved_part(self._chain, changes), self._points(looked_at)[::10]
        stretches = find_camera(changes, reach, width=WIDTH, height=HEIGHT, offset=offset)
        fit = stretches[0].camera if len(stretches) == 1 and stretches[0].usable else None
        tips = np.concatenate([d.episode.end_effector[:, :3] for d in looked_at if d.episode.end_effector is not None])
        by_clicks = clicked(camera, tips[::7], rng)
        found, by_hand = (None if f is None else errors_of(f, camera, self._unseen) for f in (fit, by_clicks))
        why = "; ".join(reason for stretch in stretches for reason in stretch.reasons)
        words = f"{in_words(found)} ({len(changes)} events, {time.perf_counter() - start:.0f} s)"
        return found, by_hand, f"{words}{f': {why}' if fit is None else ''}; clicked: {in_words(by_hand)}"


_bench: Bench | None = None


def _open_bench(first: int) -> None:
    global _bench
    dies_with_parent(signal.SIGKILL)()
    _bench = Bench(first)


def _camera(number: int, seen: int) -> tuple[Floats | None, Floats | None, str]:
    assert _bench is not None  # the process began with it
    return _bench.camera(number, seen)


def measure(cameras: int, seen: int, first: int, jobs: int, kept: Path) -> dict[str, dict[str, float | None]]:
    """The figures of some cameras, from the seed `first` on, in several processes; their number changes no figure.

    Each camera is kept in the folder `kept`, of the same cameras, when it is done: a measurement that was stopped goes
    on there.
    """
    from posa_vla.console import say

    def file_of(number: int) -> Path:
        return kept / f"camera-{first}-{seen}-{number}.json"

    missing = [number for number in range(cameras) if not file_of(number).exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(min(jobs, len(missing)), context, _open_bench, (first,)) as pool,
            progress("calibrate", cameras, unit="camera") as advance,
        ):
            advance(cameras - len(missing))
            futures = {pool.submit(_camera, number, seen): number for number in missing}
            for future in as_completed(futures):
                found, clicks, words = future.result()
                number = futures[future]
                both = {"automatic": found, "clicked": clicks}
                write_json(file_of(number), {k: None if v is None else v.round(6).tolist() for k, v in both.items()})
                say(f"camera {number}: {words}")
                advance(1)
    tallies = {"automatic": Tally(), "clicked": Tally()}
    for number in range(cameras):
        for kind, errors in read_json(file_of(number)).items():
            tallies[kind].add(None if errors is None else np.array(errors))
    return {kind: tally.figures() for kind, tally in tallies.items()}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="5 cameras, 20 demonstrations each")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--cameras", type=int, help="how many")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first camera")
    parser.add_argument("--kept", type=Path, help="folder of finished cameras, to go on with what is missing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    # Before the processes import NumPy: each has one core.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    cameras, seen = (5, 20) if arguments.quick else (CAMERAS, SEEN)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            arguments.cameras or cameras, seen, arguments.first, arguments.jobs, arguments.kept or Path(folder)
        )
    if arguments.json:
        print(json.dumps(figures))
        return
    for kind, values in figures.items():
        print(f"{kind}: " + ", ".join(f"{k} {'none' if v is None else format(v, '.4g')}" for k, v in values.items()))


if __name__ == "__main__":
    main()
