"""The Policy face and the action chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from posa_vla.errors import BadInput


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one instant.

    Attributes:
        images: Role -> uint8 (H, W, 3), RGB, of any size: a policy fits it into what it sees, as its data were
            prepared (`posa_vla.episodes.media.images.Fit`).
        state: float32 (S,), the embodiment's state channels.
        instruction: What to do, in words.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True)
class ActionChunk:
    """Actions for the next H control steps.

    Attributes:
        actions: float32 (B, H, A), physical units, the embodiment's action channels and frame.
        frame: Frame of reference of the actions, as the embodiment declares it.
        attention: Camera role -> float32 (B, K, h, w) anchor attention in [0, 1], channels task and, where the policy
            has it, end-effector; where its actions follow from one and it was asked for it.
        cross_attention: Camera role -> float32 (B, k, l), share of each image cell in what the action head attended
            to; where the policy has one and was asked for it.
    """

    actions: NDArray[np.float32]
    frame: str
    attention: Mapping[str, NDArray[np.float32]] | None = None
    cross_attention: Mapping[str, NDArray[np.float32]] | None = None

    def row(self, number: int) -> ActionChunk:
        """The chunk of one observation of the batch, as a batch of its own."""
        one = slice(number, number + 1)

        def rows(maps: Mapping[str, NDArray[np.float32]] | None) -> dict[str, NDArray[np.float32]] | None:
            return None if maps is None else {role: values[one] for role, values in maps.items()}

        return ActionChunk(self.actions[one], self.frame, rows(self.attention), rows(self.cross_attention))

    def __post_init__(self) -> None:
        if self.actions.ndim != 3 or self.actions.dtype != np.float32:
            raise BadInput(f"actions are {self.actions.dtype} {self.actions.shape}, expected float32 (B, H, A)")


class Policy(Protocol):
    """What the simulator, the control loop and the server know of a model."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 that identifies weights and configuration."""
        ...

    @property
    def horizon(self) -> int:
        """H, the number of actions in a chunk."""
        ...

    @property
    def flow_steps(self) -> int | None:
        """Integration steps of its flow as it was made; None for a policy that has no flow."""
        ...

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        """The same policy, sampled in another way than it was made for; one that has no flow is returned as it is.

        Args:
            steps: Integration steps; as it was made if None.
            start_noise: Scale of the noise that the flow starts from; 1 is what it was trained with.
        """
        ...

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        """Chooses the next actions.

        Args:
            batch: B observations.
            committed: float32 (B, K, A), the prefix of the coming chunk that is already being executed, or None.
            seed: Fixes the policy's randomness: same batch and seed, same actions. With B seeds, one an observation, a
                row's actions are those of a batch of that observation and seed alone, up to rounding.
            attention: Whether to return both attentions too.

        Raises:
            BadInput: A camera is missing, an image is none, or state or instruction does not fit the policy.
        """
        ...
