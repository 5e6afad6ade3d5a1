"""The episodes of prepared data, whole, and what a policy is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.errors import BadInput
from posa_vla.policy.policy import Observation


@dataclass(frozen=True)
class Labels:
    """Anchor labels of N frames: role -> (N, 1 + E, 2) pixels of the prepared picture, and whether they are valid."""

    points: dict[str, NDArray[np.float32]]
    valid: dict[str, NDArray[np.bool_]]


class PackedEpisodes:
    """One split of prepared data, episode by episode.

    Attributes:
        state: float32 (N, S), all frames.
        action: float32 (N, A), as recorded.
        caption: int64 (N,), what was asked at each frame.
        captions: The texts.
        fps: Frames per second.
        spans: (first frame, number of frames) of each episode.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """Opens the split.

        Raises:
            BadInput: The folder is not prepared data, or a file of it is damaged.
        """
        self._packed = PackedDataset(folder, split, 1)
        path = folder / f"{split}.safetensors"
        try:
            with safe_open(path, "np") as file:
                self.state, self.action = file.get_tensor("state"), file.get_tensor("action")
                self.caption, lengths = file.get_tensor("caption"), file.get_tensor("length")
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{path} is missing or damaged ({error}): run `posa data prepare` again") from None
        manifest = read_manifest(folder)
        self.captions, self.fps = manifest.captions, manifest.fps
        self.spans: list[tuple[int, int]] = []
        first = 0
        while first < len(lengths):
            self.spans.append((first, int(lengths[first])))
            first += int(lengths[first])

    @property
    def labelled(self) -> bool:
        """Whether any frame has an anchor label."""
        return self._packed.labelled

    def instruction(self, frame: int) -> str:
        """What the robot was asked at a frame."""
        return self.captions[int(self.caption[frame])]

    def whole(self) -> list[int]:
        """Numbers of the episodes that lack no camera: a policy is asked with all of its cameras."""
        firsts = torch.tensor([first for first, _ in self.spans], dtype=torch.int64)
        if not len(firsts):
            return []
        present = torch.stack(list(self._packed.sample(firsts).present.values())).all(dim=0)
        return [number for number, there in enumerate(present.tolist()) if there]

    def chunks(self, frames: NDArray[np.int64], horizon: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What was done from frames on, float32 (N, H, A), and what of it is of the episode, bool (N, H).

        Past the end of an episode its last action is repeated.
        """
        firsts = np.array([first for first, _ in self.spans])
        place = np.searchsorted(firsts, frames, side="right") - 1
        last = np.array([first + length - 1 for first, length in self.spans])[place][:, None]
        steps = frames[:, None] + np.arange(horizon)
        return self.action[np.minimum(steps, last)], steps <= last

    def observations(self, frames: Sequence[int]) -> list[Observation]:
        """What the policy sees at some frames: pictures as they were prepared."""
        images = self._packed.sample(torch.tensor(list(frames), dtype=torch.int64)).images
        pictures = {role: values.numpy() for role, values in images.items()}
        return [
            Observation({role: values[n] for role, values in pictures.items()}, self.state[f], self.instruction(f))
            for n, f in enumerate(frames)
        ]

    def labels(self, frames: Sequence[int]) -> Labels:
        """The anchor labels of some frames."""
        batch = self._packed.sample(torch.tensor(list(frames), dtype=torch.int64))
        points = {role: values.numpy() for role, values in batch.anchor_points.items()}
        return Labels(points, {role: values.numpy() for role, values in batch.anchor_valid.items()})
