"""A dataset's pictures, and where the grippers are in space at each of them."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from posa_vla.console import progress, say
from posa_vla.dataset.calibration.events import Change, gripper_changes, pictures_at
from posa_vla.dataset.calibration.frames import Motion, Spot
from posa_vla.dataset.labels import acting_grippers
from posa_vla.episodes.foreign.dataset import SourceEpisode
from posa_vla.episodes.foreign.reader import SourceReader
from posa_vla.episodes.outside_files import MALFORMED
from posa_vla.errors import BadInput

# Pictures that are kept in memory: one is looked at more than once.
_KEPT = 60
# Episodes whose gripper's events are looked at: to decode one takes up to a second.
_LOOKED_AT = 6

# Number of an episode, number of a frame in it.
Frame = tuple[int, int]


class Filmed:
    """The episodes that can be read, their motions in memory, their pictures on demand.

    Attributes:
        ends: Names of several end effectors; empty where there is one.
        motions: Number of the episode -> its end effectors.
        sizes: Role -> width and height of its pictures.
    """

    def __init__(self, reader: SourceReader) -> None:
        """Reads what is recorded beside the pictures.

        Args:
            reader: Of a dataset whose embodiment declares its chain of joints.
        """
        self.ends = reader.embodiment.end_effectors
        self.motions: dict[int, Motion] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self._reader = reader
        self._where: dict[int, SourceEpisode] = {}
        self._changes: dict[str, list[Change]] = {}
        self._seen: OrderedDict[tuple[str, Frame], NDArray[np.uint8]] = OrderedDict()
        places = list(reader.source.episodes())
        with progress("read", len(places), unit="episode") as advance:
            for where in places:
                try:
                    episode = reader.episode(where)
                except (BadInput, *MALFORMED) as error:
                    say(f"episode {where.number} is left out: {error}")
                    continue
                finally:
                    advance(1)
                if episode.poses is not None:
                    events = acting_grippers(episode, reader.embodiment)
                    self.motions[where.number] = Motion(episode.poses, *events, episode.fps)
                    self._where[where.number] = where
                    for role, camera in episode.cameras.items():
                        height, width = camera.images.shape[1:3]
                        self.sizes[role] = (width, height)

    def picture(self, role: str, frame: Frame) -> NDArray[np.uint8]:
        """A camera's picture, uint8 (H, W, 3).

        Raises:
            BadInput: It cannot be read.
        """
        if (role, frame) not in self._seen:
            images = self._reader.episode(self._where[frame[0]]).cameras[role].images
            self._seen[(role, frame)] = pictures_at(images, {frame[1]})[frame[1]]
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return self._seen[(role, frame)]

    def changes(self, role: str) -> list[Change]:
        """The gripper's events of some episodes, as a camera saw them."""
        if role not in self._changes:
            acting = [number for number, motion in self.motions.items() if len(motion.events)]
            chosen = acting[:: max(1, -(-len(acting) // _LOOKED_AT))]
            self._changes[role] = []
            for number in chosen:
                # What cannot be decoded says nothing of the clicks.
                with suppress(BadInput, *MALFORMED):
                    episode = self._reader.episode(self._where[number])
                    self._changes[role] += gripper_changes(episode, self._reader.embodiment, role)[0]
        return self._changes[role]

    def reach(self) -> NDArray[np.float64]:
        """Where the end effectors go, float64 (M, 3), m, base frame."""
        some = [m.poses[:: max(1, len(m.poses) // 20), :, :3].reshape(-1, 3) for m in self.motions.values()]
        return np.concatenate([*some, np.zeros((0, 3))])

    def tip(self, spot: Spot) -> NDArray[np.float64]:
        """Where a gripper's tip is, float64 (3,), m, base frame."""
        place: NDArray[np.float64] = self.motions[spot.episode].poses[spot.frame, spot.end, :3]
        return place

    def name(self, end: int) -> str | None:
        """Name of an end effector; None of a lone one."""
        return self.ends[end] if self.ends else None
