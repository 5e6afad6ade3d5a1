"""Demonstrations of the test bench, recorded as a team's robot would, and somebody who clicks what is true."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posa_vla.dataset.labels import gripper_events
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.geometry import project
from posa_vla.sim.environment import make_environment
from posa_vla.sim.recordings import record

WIDTH, HEIGHT = 160, 120
EMBODIMENT = "so101_bench"


@dataclass(frozen=True)
class Bench:
    """A dataset and its truth."""

    folder: Path
    truth: list[Episode]

    def pixel(self, role: str, frame: tuple[int, int], of: str = "tip") -> tuple[float, float]:
        """Where the tip, or the place where the gripper acts next, is in a picture; perhaps out of view."""
        episode = self.truth[frame[0]]
        assert episode.end_effector is not None
        point = episode.end_effector[frame[1], :3]
        if of == "place":
            events = gripper_events(episode, load_embodiment(EMBODIMENT))
            point = episode.end_effector[events[np.searchsorted(events, frame[1])], :3]
        camera = episode.cameras[role]
        assert camera.intrinsics is not None
        assert camera.pose is not None
        u, v = project(point, camera.intrinsics[frame[1]], camera.pose[frame[1]], WIDTH, HEIGHT).pixels
        return float(u), float(v)

    def shows(self, role: str, frame: tuple[int, int], of: str = "tip") -> bool:
        u, v = self.pixel(role, frame, of)
        return 0 <= u < WIDTH and 0 <= v < HEIGHT


def recorded_bench(folder: Path) -> Bench:
    with closing(make_environment(EMBODIMENT, "pick_place", image_size=WIDTH, objects=2, max_steps=80)) as environment:
        return Bench(folder, record(folder, environment, range(4), noise=0.1))
