"""Demonstrations of the simulator as a team's robot would have recorded them: joints and video, and the truth apart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from posa_vla.console import progress
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.episodes.lerobot.layout import INFO_PATH, POSA_PATH
from posa_vla.episodes.lerobot.writer import write_dataset
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.errors import BadInput
from posa_vla.files import new_folder, read_json, write_json
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import TaskEnvironment

# As webcams' H.264 is: a group of pictures a second, visibly compressed.
_CODEC, _OPTIONS = "libx264", {"crf": "26", "g": "30", "bf": "0", "preset": "veryfast"}


def encode_video(path: Path, images: Sequence[NDArray[np.uint8]], fps: float) -> None:
    """Writes pictures uint8 (H, W, 3) as H.264."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(_CODEC, rate=round(fps))
        stream.height, stream.width, stream.pix_fmt, stream.options = height, width, "yuv420p", _OPTIONS
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def recorded(episode: Episode, folder: Path) -> Episode:
    """An episode as a robot without calibration records it: joints, actions, words, and videos in a folder."""
    cameras = {}
    for role, camera in episode.cameras.items():
        images = list(camera.images)
        path = folder / f"{role}.mp4"
        encode_video(path, images, episode.fps)
        cameras[role] = CameraTrack(StoredVideo(path, 0.0, None, len(images), episode.fps, images[0].shape[:2]))
    return replace(episode, cameras=cameras, end_effector=None, gripper=None, scene={}, source="teleop")


def record(
    folder: Path, environment: TaskEnvironment, seeds: Sequence[int], *, noise: float = 0.0, robot: str = ""
) -> list[Episode]:
    """Writes the expert's demonstrations as a LeRobot v3.0 dataset that knows neither poses nor cameras.

    Args:
        folder: Where the dataset appears.
        environment: Of the task.
        seeds: Of the scenes; those that the expert does not solve are left out.
        noise: See `demonstrate`.
        robot: What the dataset calls its robot; the embodiment's id if empty.

    Returns:
        The demonstrations with all that is true of them.

    Raises:
        BadInput: The expert solves none of the scenes.
    """
    truth: list[Episode] = []
    embodiment = environment.embodiment
    with tempfile.TemporaryDirectory() as name, new_folder(folder) as draft:

        def episodes() -> Iterator[Episode]:
            with progress("record", len(seeds), unit="episode") as advance:
                for number, seed in enumerate(seeds):
                    episode = demonstrate(environment, seed, noise)
                    advance(1)
                    if episode is None:
                        continue
                    place = Path(name) / str(number)
                    place.mkdir()
                    truth.append(episode)
                    yield recorded(episode, place)

        inner = Path(name) / "dataset"
        write_dataset(inner, episodes(), _undeclared(embodiment))
        _as_lerobot_writes(inner, robot or embodiment.id)
        for path in inner.iterdir():
            path.rename(draft / path.name)
    if not truth:
        raise BadInput(f"the expert solves none of {len(seeds)} scenes")
    return truth


def _undeclared(embodiment: Embodiment) -> Embodiment:
    return embodiment.model_copy(update={"arm": None, "kinematics": None})


def _as_lerobot_writes(folder: Path, robot: str) -> None:
    """Takes our own metadata away."""
    (folder / POSA_PATH).unlink()
    info = read_json(folder / INFO_PATH)
    write_json(folder / INFO_PATH, {**info, "robot_type": robot})
