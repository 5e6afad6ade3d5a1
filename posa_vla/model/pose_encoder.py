"""The pose encoder: the robot's own state to a vector."""

from __future__ import annotations

from torch import Tensor, nn


class PoseEncoder(nn.Module):
    """A small network from the normalised state (B, S) to (B, d).

    The state holds the joints of all arms, and so the poses of all end effectors. Its output joins the text in the
    queries of the anchor attention (`pose_query`) and conditions the action head.
    """

    def __init__(self, state_dim: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state_dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, state: Tensor) -> Tensor:
        """Encodes the normalised state."""
        out: Tensor = self.net(state)
        return out
