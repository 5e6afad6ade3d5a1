"""Batches: gathered from memory-mapped shards, sampled reproducibly, augmented as whole tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from posa_vla.errors import BadInput
from posa_vla.files import read_json


@dataclass(frozen=True)
class Batch:
    """B samples of horizon H.

    Attributes:
        images: Role -> uint8 (B, height, width, 3).
        state: float32 (B, S), physical units.
        action: float32 (B, H, A), physical units; past the episode's end the last action is repeated.
        action_valid: bool (B, H), false past the episode's end.
        caption: int64 (B,), index into the manifest's captions.
        anchor_points: Role -> float32 (B, 2, 2), [task, end-effector] x [u, v], continuous pixels.
        anchor_valid: Role -> bool (B, 2).
    """

    images: dict[str, Tensor]
    state: Tensor
    action: Tensor
    action_valid: Tensor
    caption: Tensor
    anchor_points: dict[str, Tensor]
    anchor_valid: dict[str, Tensor]


def _gather(rows: Tensor, indices: Tensor) -> Tensor:
    """`rows[indices]`, copied in words of eight bytes where a row has a whole number of them."""
    width = rows[:1].numel() * rows.element_size() if len(rows) else 0
    if width and width % 8 == 0 and rows.data_ptr() % 8 == 0:
        words = rows.view(len(rows), -1).view(torch.int64)
        return words.index_select(0, indices).view(rows.dtype).view(len(indices), *rows.shape[1:])
    return rows.index_select(0, indices)


class PackedDataset:
    """One split of a prepared folder; the pages of the files are read when they are needed."""

    def __init__(self, folder: Path, split: str, horizon: int) -> None:
        """Maps the shard.

        Args:
            folder: Prepared data.
            split: `train` or `validation`.
            horizon: Actions in a chunk.

        Raises:
            BadInput: The folder is not prepared data, or a file of it is damaged.
        """
        manifest = read_json(folder / "manifest.json")
        path = folder / f"{split}.safetensors"
        self.horizon = horizon
        try:
            self.cameras: list[str] = list(manifest["cameras"])
            self.captions: list[str] = list(manifest["captions"])
            with safe_open(path, "pt") as file:
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            frames = int(manifest["splits"][split]["frames"])
            self._images = {role: tensors[f"images.{role}"] for role in self.cameras}
            self._points = {role: tensors[f"anchor_points.{role}"] for role in self.cameras}
            self._valid = {role: tensors[f"anchor_valid.{role}"] for role in self.cameras}
            self._state, self._action, self._caption = tensors["state"], tensors["action"], tensors["caption"]
            self._last = torch.arange(frames) - tensors["frame"] + tensors["length"] - 1
        except (OSError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise BadInput(f"{path} is missing or damaged ({error}): run `posa data prepare` again") from None

    def __len__(self) -> int:
        return len(self._state)

    def sample(self, indices: Tensor) -> Batch:
        """The samples that start at given frames.

        Args:
            indices: int64 (B,), frames of this split.
        """
        steps = indices[:, None] + torch.arange(self.horizon)
        last = self._last[indices][:, None]
        return Batch(
            images={role: _gather(rows, indices) for role, rows in self._images.items()},
            state=self._state[indices],
            action=self._action[torch.minimum(steps, last)],
            action_valid=steps <= last,
            caption=self._caption[indices],
            anchor_points={role: rows[indices] for role, rows in self._points.items()},
            anchor_valid={role: rows[indices] for role, rows in self._valid.items()},
        )


class BatchSampler:
    """An endless sequence of shuffled epochs cut into batches; any step can be asked for at any time.

    A batch may reach over the end of an epoch, so that every frame comes once an epoch whatever the batch size. The
    ranks' shares are disjoint and make up the whole batch.
    """

    def __init__(self, frames: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        """Sets up the sequence.

        Args:
            frames: Number of frames to draw from.
            batch: Samples of one step over all ranks.
            seed: Fixes the order.
            rank: This worker's number.
            world: Number of workers.

        Raises:
            BadInput: There is nothing to draw from.
        """
        if frames <= 0 or batch <= 0:
            raise BadInput(f"cannot draw batches of {batch} from {frames} frames: both must be positive")
        self._frames, self._batch, self._seed = frames, batch, seed
        self._rank, self._world = rank, world
        self._orders: dict[int, Tensor] = {}

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e >= epoch - 1}
            generator = torch.Generator().manual_seed(self._seed * 2**20 + epoch)
            self._orders[epoch] = torch.randperm(self._frames, generator=generator)
        return self._orders[epoch]

    def indices(self, step: int) -> Tensor:
        """int64, this rank's share of the batch of a step."""
        position, end = step * self._batch, (step + 1) * self._batch
        pieces = []
        while position < end:
            epoch, offset = divmod(position, self._frames)
            piece = self._order(epoch)[offset : offset + end - position]
            pieces.append(piece)
            position += len(piece)
        return torch.cat(pieces)[self._rank :: self._world]


def _shift(images: Tensor, offsets: Tensor, shift: int) -> Tensor:
    """Moves each image by its own (right, down) offset in pixels; the edge is repeated.

    Every shifted image is a window of the padded one, so that whole rows of pixels are copied.
    """
    count, height, width, channels = images.shape
    left, right = (edge.expand(-1, -1, shift, -1) for edge in (images[:, :, :1], images[:, :, -1:]))
    wide = torch.cat([left, images, right], dim=2)
    above, below = (edge.expand(-1, shift, -1, -1) for edge in (wide[:, :1], wide[:, -1:]))
    padded = torch.cat([above, wide, below], dim=1).flatten(2)
    windows = padded.unfold(1, height, 1).unfold(2, width * channels, channels)
    return windows[torch.arange(count), shift - offsets[:, 1], shift - offsets[:, 0]].reshape(images.shape)


def _jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Random contrast about mid-grey, brightness, and a gain of each colour half as strong, one draw an image."""
    count = len(images)
    contrast = 1 + strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    gain = 1 + 0.5 * strength * (2 * torch.rand(count, 1, 1, 3, generator=generator) - 1)
    brightness = 127.5 * strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    scale = contrast * gain
    # One multiplication and one addition a pixel; the half rounds to nearest on the way back to integers.
    offset = (127.5 * (1 - contrast) + brightness) * gain + 0.5
    return images.float().mul_(scale).add_(offset).clamp_(0, 255).to(torch.uint8)


def augment(batch: Batch, generator: torch.Generator, shift: int, jitter: float) -> Batch:
    """Shifts and recolours every image by its own draw; anchor points move with their image.

    Args:
        batch: Samples.
        generator: Source of all randomness.
        shift: Largest shift along each axis, pixels; 0 for none.
        jitter: Strength of the colour change, 0 for none.

    Returns:
        A batch with new images and anchors; a point that left its image is not valid any more.
    """
    images, points, valid = dict(batch.images), dict(batch.anchor_points), dict(batch.anchor_valid)
    for role, picture in batch.images.items():
        if shift:
            offsets = torch.randint(-shift, shift + 1, (len(picture), 2), generator=generator)
            picture = _shift(picture, offsets, shift)
            size = torch.tensor([picture.shape[2], picture.shape[1]])
            moved = points[role] + offsets[:, None, :]
            inside = ((moved >= 0) & (moved < size)).all(dim=-1)
            points[role], valid[role] = moved, valid[role] & inside
        if jitter:
            picture = _jitter(picture, generator, jitter)
        images[role] = picture
    return replace(batch, images=images, anchor_points=points, anchor_valid=valid)
