"""The test bench as random cameras film it: with noise, shadows, a drifting exposure and a stranger, as H.264."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from posa_vla.dataset.calibration.events import Change, gripper_changes
from posa_vla.dataset.labels import gripper_events, task_points
from posa_vla.episodes.embodiment import Embodiment, embodiment_file
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.geometry import Projection, matrix_to_quaternion, project
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import TaskEnvironment
from posa_vla.sim.recordings import encode_video
from posa_vla.sim.tasks import Scene

Floats = NDArray[np.float64]
WIDTH, HEIGHT = 640, 480
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
