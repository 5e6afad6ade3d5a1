"""Batches: gathered from memory-mapped shards, sampled reproducibly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.errors import BadInput


@dataclass(frozen=True)
class Batch:
    """B samples of horizon H.

    Attributes:
        images: Role -> uint8 (B, height, width, 3).
        state: float32 (B, S), physical units.
        action: float32 (B, H, A), physical units; past the episode's end the last action is repeated.
        action_valid: bool (B, H), false past the episode's end.
        caption: int64 (B,), index into the manifest's captions.
        anchor_points: Role -> float32 (B, 1 + E, 2), [task, each of E end effectors] x [u, v], continuous pixels.
        anchor_valid: Role -> bool (B, 1 + E).
        present: Role -> bool (B,), whether the action head sees the camera: it is false where an episode lacks it.
    """

    images: dict[str, Tensor]
    state: Tensor
    action: Tensor
    action_valid: Tensor
    caption: Tensor
    anchor_points: dict[str, Tensor]
    anchor_valid: dict[str, Tensor]
    present: dict[str, Tensor]


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
        manifest = read_manifest(folder)
        path = folder / f"{split}.safetensors"
        self.horizon, self.cameras, self.captions = horizon, manifest.cameras, manifest.captions
        try:
            with safe_open(path, "pt") as file:
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            frames = manifest.splits[split].frames
            self._images = {role: tensors[f"images.{role}"] for role in self.cameras}
            self._points = {role: tensors[f"anchor_points.{role}"] for role in self.cameras}
            self._valid = {role: tensors[f"anchor_valid.{role}"] for role in self.cameras}
            # Data of before it was said have all cameras in all episodes.
            every = torch.ones(frames, dtype=torch.bool)
            self._present = {role: tensors.get(f"present.{role}", every) for role in self.cameras}
            self._state, self._action, self._caption = tensors["state"], tensors["action"], tensors["caption"]
            self._last = torch.arange(frames) - tensors["frame"] + tensors["length"] - 1
        except (OSError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise BadInput(f"{path} is missing or damaged ({error}): run `posa data prepare` again") from None

    def __len__(self) -> int:
        return len(self._state)

    @property
    def labelled(self) -> bool:
        """Whether any frame has an anchor label."""
        return any(bool(valid.any()) for valid in self._valid.values())

    @property
    def beyond_the_end(self) -> float:
        """Share of the frames whose chunk runs past the end of the episode."""
        starts = torch.arange(len(self))
        return float((starts + self.horizon - 1 > self._last).float().mean()) if len(self) else 0.0

    def chunks(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State, action and action_valid of the samples that start at given frames; see `Batch`."""
        steps = indices[:, None] + torch.arange(self.horizon)
        last = self._last[indices][:, None]
        return self._state[indices], self._action[torch.minimum(steps, last)], steps <= last

    def sample(self, indices: Tensor) -> Batch:
        """The samples that start at given frames.

        Args:
            indices: int64 (B,), frames of this split.
        """
        state, action, valid = self.chunks(indices)
        return Batch(
            images={role: _gather(rows, indices) for role, rows in self._images.items()},
            state=state,
            action=action,
            action_valid=valid,
            caption=self._caption[indices],
            anchor_points={role: rows[indices] for role, rows in self._points.items()},
            anchor_valid={role: rows[indices] for role, rows in self._valid.items()},
            present={role: rows[indices] for role, rows in self._present.items()},
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
