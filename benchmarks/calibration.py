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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from posa_vla.console import progress
from posa_vla.dataset.calibration.automatic import find_camera, moved_part
from posa_vla.dataset.calibration.clicks import camera_from_clicks
from posa_vla.dataset.calibration.events import Change, gripper_changes
from posa_vla.dataset.calibration.fit import CameraFit
from posa_vla.dataset.labels import gripper_events, task_points
from posa_vla.episodes.embodiment import Embodiment, embodiment_file
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.files import read_json, write_json
from posa_vla.geometry import Projection, matrix_to_quaternion, project
from posa_vla.processes import dies_with_parent
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import TaskEnvironment, make_environment
from posa_vla.sim.gl import require_gl
from posa_vla.sim.recordings import encode_video
from posa_vla.sim.tasks import Scene

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 640, 480
# Demonstrations that a fit sees, and others that it is judged on.
SEEN, UNSEEN = 50, 20
CAMERAS, FIRST = 100, 10_000
# Seeds of scenes that a camera has for itself.
SCENES = 1000
TOO_FAR = 0.05
CLICKS, CLICK_NOISE = 10, 3.0
# Frames before and after an event that are filmed: more than `posa data calibrate` looks at.
_BEFORE, _AFTER = 5, 14


@dataclass(frozen=True)
class Demonstration:
    """An episode with poses from its joints, as a dataset has them, its scene, and the simulator's states."""

    episode: Episode
    scene: Scene
    states: Floats


class Watched:
    """An environment that keeps the simulator's state at each observation."""

    def __init__(self, environment: TaskEnvironment) -> None:
        self._environment = environment
        self.states: list[Floats] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reset(self, *, seed: int) -> Any:
        """The environment's."""
        self.states.clear()
        return self._kept(self._environment.reset(seed=seed))

    def step(self, action: NDArray[np.float32]) -> Any:
        """The environment's."""
        return self._kept(self._environment.step(action))

    def _kept(self, answer: Any) -> Any:
        self.states.append(self._environment.simulation.data.qpos.copy())
        return answer


def demonstrations(environment: TaskEnvironment, seeds: Iterator[int], count: int) -> list[Demonstration]:
    """The expert's, on the next scenes that it solves."""
    watched, made = Watched(environment), list[Demonstration]()
    kinematics = ForwardKinematics(environment.embodiment, embodiment_file(environment.embodiment.id).parent)
    while len(made) < count:
        episode = demonstrate(cast("TaskEnvironment", watched), next(seeds), 0.0)
        if episode is not None:
            posed = replace(episode, end_effector=kinematics.poses(episode.state))
            made.append(Demonstration(posed, environment.scene, np.array(watched.states[: len(episode)])))
    return made


@dataclass(frozen=True)
class Camera:
    """The truth."""

    intrinsics: Floats
    pose: Floats

    def sees(self, points: Floats) -> Projection:
        """Where points (M, 3) are in its picture."""
        return project(points, self.intrinsics, self.pose, WIDTH, HEIGHT)


def random_camera(rng: np.random.Generator) -> Camera:
    """Somewhere around the table, looking at its middle, with an ordinary lens."""
    focal = WIDTH * np.exp(rng.normal(np.log(0.85), 0.2))
    azimuth, elevation, distance = rng.uniform(-2.6, 2.6), rng.uniform(0.3, 1.3), rng.uniform(0.45, 1.0)
    looked_at = np.array([0.23, 0, 0.05]) + rng.normal(0, 0.03, 3)
    out = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.cross(-out, [0, 0, 1])
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(-out, right), -out], axis=1)
    turned = upright @ Rotation.from_euler("z", rng.normal(0, 5), degrees=True).as_matrix()
    pose = np.concatenate([looked_at + distance * out, matrix_to_quaternion(turned)])
    return Camera(np.array([focal, focal, WIDTH / 2, HEIGHT / 2]), pose)


def points_of(episodes: Sequence[Episode], embodiment: Embodiment) -> Floats:
    """Points of both anchors, (M, 3)."""
    points = []
    for episode in episodes:
        assert episode.end_effector is not None
        points += [episode.end_effector[:, :3], task_points(episode.end_effector, gripper_events(episode, embodiment))]
    return np.concatenate(points)


class Film:
    """Films demonstrations with one camera."""

    def __init__(self, simulation: Any, camera: Camera, rng: np.random.Generator) -> None:
        import mujoco

        self._mujoco, self._simulation, self._rng = mujoco, simulation, rng
        model = simulation.model
        model.vis.global_.offwidth, model.vis.global_.offheight = WIDTH, HEIGHT
        model.vis.quality.shadowsize = 1024
        model.light_castshadow[:] = 1
        head = model.camera("head").id
        turn = Rotation.from_quat(camera.pose[[4, 5, 6, 3]]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        model.cam_pos[head], model.cam_quat[head] = camera.pose[:3], matrix_to_quaternion(turn)
        model.cam_fovy[head] = np.degrees(2 * np.arctan(HEIGHT / 2 / camera.intrinsics[1]))
        self._renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        # Drawn once and moved about: to draw it anew for each picture would take longer than the picture.
        self._noise = rng.normal(0, 4, (HEIGHT, WIDTH, 1)) + rng.normal(0, 2, (HEIGHT, WIDTH, 3))
        self._noise = self._noise.astype(np.float32)

    def close(self) -> None:
        """Frees the renderer."""
        self._renderer.close()

    def shoot(self, demonstration: Demonstration) -> Iterator[NDArray[np.uint8]]:
        """The pictures, uint8 (480, 640, 3), with all that a webcam adds."""
        rng, simulation, mujoco = self._rng, self._simulation, self._mujoco
        at = np.array([rng.uniform(0.0, 0.45), rng.choice([-1, 1]) * rng.uniform(0.1, 0.35), rng.uniform(0.0, 0.25)])
        drift, phase = rng.uniform(0, 0.08), rng.uniform(0, 2 * np.pi)
        there = bool(rng.random() < 0.5)
        simulation.reset(demonstration.scene)
        events = gripper_events(demonstration.episode, simulation.embodiment)
        picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for frame, state in enumerate(demonstration.states):
            at = at + rng.normal(0, 0.012, 3)
            if frame > 0 and not ((frame >= events - _BEFORE) & (frame <= events + _AFTER)).any():
                yield picture.clip(0, 255).astype(np.uint8)
                continue
            simulation.data.qpos[:] = state
            mujoco.mj_forward(simulation.model, simulation.data)
            self._renderer.update_scene(simulation.data, "head")
            if there:
                self._stranger(at)
            picture = self._renderer.render().astype(np.float32) * (1 + drift * np.sin(phase + frame / 15))
            picture += np.roll(self._noise, rng.integers(0, (HEIGHT, WIDTH)).tolist(), axis=(0, 1))
            yield picture.clip(0, 255).astype(np.uint8)

    def _stranger(self, at: Floats) -> None:
        """A hand that reaches into the picture."""
        scene = self._renderer.scene
        self._mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            self._mujoco.mjtGeom.mjGEOM_CAPSULE,
            np.array([0.03, 0.03, 0.08]),
            at,
            Rotation.from_euler("x", 70, degrees=True).as_matrix().ravel(),
            np.array([0.8, 0.6, 0.5, 1], np.float32),
        )
        scene.ngeom += 1


def seen_changes(
    film: Film, demonstrations: Sequence[Demonstration], embodiment: Embodiment, folder: Path
) -> list[tuple[int, Change]]:
    """The gripper's events in one camera's videos, as `posa data calibrate` looks for them."""
    changes: list[tuple[int, Change]] = []
    for number, demonstration in enumerate(demonstrations):
        episode, path = demonstration.episode, folder / f"{number}.mp4"
        encode_video(path, list(film.shoot(demonstration)), episode.fps)
        video = StoredVideo(path, 0.0, None, len(episode), episode.fps, (HEIGHT, WIDTH))
        recorded = replace(episode, cameras={"head": CameraTrack(video)})
        changes += [(number, change) for change in gripper_changes(recorded, embodiment, "head")[0]]
        path.unlink()
    return changes


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
