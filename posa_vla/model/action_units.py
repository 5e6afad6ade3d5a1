"""Actions in the network's units and back: relative to the state, rotations as six numbers, standardised."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posa_vla.dataset.shards.loader import PackedDataset
from posa_vla.episodes.action_space import SIX, ActionSpace, Rotation
from posa_vla.model.normalisation import Standardise, Statistics
from posa_vla.model.rotations import from_matrix, from_six, to_matrix, to_six

# Most numbers that statistics over chunks are made of: 64 MB of float64. More are drawn from evenly.
_MOST = 8_000_000
# What stands elsewhere in the next recording is taken off relative actions with the state: this share of the floor is
# enough. And the floor of each of a rotation's six numbers, which run from -1 to 1.
_STEADY, _SIX_FLOOR = 0.1, 0.02


class ActionUnits(nn.Module):
    """Physical actions to the network's and back.

    Attributes:
        space: What the network predicts; the embodiment's own actions if None.
    """

    def __init__(self, statistics: Statistics, space: ActionSpace | None, middle: list[float]) -> None:
        """Sets up both directions.

        Args:
            statistics: Of the network's channels, before they are standardised.
            space: See `ActionSpace`.
            middle: Of each action channel's limits (A): the numbers of a rotation that the state lacks are those
                nearest to it.
        """
        super().__init__()
        self.space = space
        self.scale = Standardise(statistics)
        self.register_buffer("middle", torch.tensor(middle), False)

    def forward(self, actions: Tensor, state: Tensor) -> Tensor:
        """The network's chunks (B, H, D).

        Args:
            actions: (B, H, A), physical units.
            state: (B, S) at the chunks' start, physical units.
        """
        scaled: Tensor = self.scale(actions if self.space is None else encoded(self.space, actions, state))
        return scaled

    def back(self, chunk: Tensor, state: Tensor) -> Tensor:
        """The physical actions (B, H, A) of a network's chunks (B, H, D); `state` as in `forward`."""
        values = self.scale.back(chunk)
        return values if self.space is None else _decoded(self.space, values, state, self.get_buffer("middle"))

    @property
    def spread(self) -> Tensor:
        """(A,) six standard deviations of each action channel, physical units; a whole turn of a rotation's."""
        std = self.scale.get_buffer("std")
        if self.space is None:
            return 6 * std
        spread = std.new_zeros(len(self.space.relative_to))
        spread[self.space.plain] = 6 * std[: len(self.space.plain)]
        for rotation in self.space.rotations:
            turn = 2.0 if rotation.form.startswith("quaternion") else 2 * math.pi / _radians(rotation)
            spread[rotation.channels] = turn
        return spread


def encoded(space: ActionSpace, actions: Tensor, state: Tensor) -> Tensor:
    """Actions in a space, not yet standardised: (B, H, D) of (B, H, A) and the state (B, S), physical units."""
    channels, sources = _relative(space)
    plain = actions[..., space.plain]
    if channels:
        offset = torch.zeros_like(actions[:, 0])
        offset[:, channels] = state[:, sources]
        plain = plain - offset[:, None, space.plain]
    sixes = []
    for rotation in space.rotations:
        matrix = _matrix(rotation, actions[..., rotation.channels])
        start = _start(space, rotation, state)
        if start is not None:
            matrix = matrix @ _matrix(rotation, start).mT[:, None]
        sixes.append(to_six(matrix))
    return torch.cat([plain, *sixes], -1)


def _decoded(space: ActionSpace, values: Tensor, state: Tensor, middle: Tensor) -> Tensor:
    channels, sources = _relative(space)
    columns = dict(zip(space.plain, values[..., : len(space.plain)].unbind(-1), strict=True))
    for channel, source in zip(channels, sources, strict=True):
        if channel in columns:
            columns[channel] = columns[channel] + state[:, None, source]
    for number, rotation in enumerate(space.rotations):
        begin = len(space.plain) + SIX * number
        matrix = from_six(values[..., begin : begin + SIX])
        start = _start(space, rotation, state)
        if start is not None:
            matrix = matrix @ _matrix(rotation, start)[:, None]
        known = state[:, rotation.state] if rotation.state else middle[rotation.channels].expand(len(values), -1)
        unit = _radians(rotation)
        found = from_matrix(matrix, rotation.form, known[:, None] * unit) / unit
        columns.update(zip(rotation.channels, found.unbind(-1), strict=True))
    return torch.stack([columns[channel] for channel in range(len(space.relative_to))], -1)


def _relative(space: ActionSpace) -> tuple[list[int], list[int]]:
    """Action channels, and the state channels that they are relative to."""
    pairs = [(channel, source) for channel, source in enumerate(space.relative_to) if source is not None]
    return [channel for channel, _ in pairs], [source for _, source in pairs]


def _start(space: ActionSpace, rotation: Rotation, state: Tensor) -> Tensor | None:
    """A rotation's numbers (B, 3 or 4) in the state; None where it is predicted as it is."""
    sources = [space.relative_to[channel] for channel in rotation.channels]
    known = [source for source in sources if source is not None]
    return state[:, known] if len(known) == len(sources) else None


def _radians(rotation: Rotation) -> float:
    """What an angle of a rotation is multiplied with to be in rad."""
    return math.pi / 180 if rotation.degrees else 1.0


def _matrix(rotation: Rotation, values: Tensor) -> Tensor:
    return to_matrix(values * _radians(rotation), rotation.form)


def chunk_statistics(data: PackedDataset, space: ActionSpace, floor: list[float]) -> Statistics:
    """Statistics of a space's actions over all chunks of a split, as training meets them.

    Args:
        data: The training split, with the horizon of the policy.
        space: What the network predicts.
        floor: Least standard deviations of the embodiment's actions; none for data of before there were such.
    """
    frames, width = len(data), data.horizon * space.width
    every = -(-frames * width // _MOST)
    state, actions, valid = data.chunks(torch.arange(0, frames, every))
    rows = encoded(space, actions.double(), state.double())[valid]
    low, high = torch.quantile(rows, rows.new_tensor([0.01, 0.99]), dim=0)
    return Statistics(
        mean=rows.mean(0).tolist(),
        std=rows.std(0, correction=0).tolist(),
        q01=low.tolist(),
        q99=high.tolist(),
        floor=_floor(space, floor) if floor else [],
    )


def _floor(space: ActionSpace, floor: list[float]) -> list[float]:
    shares = [1.0 if source is None else _STEADY for source in space.relative_to]
    turned = [_SIX_FLOOR * shares[rotation.channels[0]] for rotation in space.rotations for _ in range(SIX)]
    return [*(floor[channel] * shares[channel] for channel in space.plain), *turned]
