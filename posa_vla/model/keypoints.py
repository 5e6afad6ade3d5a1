"""Image positions as expectations over a grid: a read-out without attention, and an auxiliary loss without a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posa_vla.model.anchor_attention import AnchorAttention


def expected_places(logits: Tensor, places: Tensor) -> Tensor:
    """The mean position under a softmax over a grid's cells.

    Args:
        logits: (..., h, w).
        places: (2, h, w), each cell's (x, y), -1 to 1 from edge to edge.

    Returns:
        (..., 2).
    """
    return torch.softmax(logits.flatten(-2), dim=-1) @ places.flatten(1).T


class SpatialSoftmax(nn.Module):
    """One position a feature channel and camera (Finn et al. 2016), as tokens and as a pooled vector of each camera."""

    def __init__(self, channels: int, cameras: int, width: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.zeros(()))
        self.token = nn.Linear(2, width)
        self.kind = nn.Parameter(torch.randn(cameras, channels, width) * 0.02)
        self.pool = nn.Linear(2 * channels, width)

    def forward(self, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Reads positions out of features (B, C, e, h, w): tokens (B, C, e, d), and pooled (B, C, d)."""
        found = expected_places(features / self.temperature.exp(), places)
        return self.token(found) + self.kind, self.pool(found.flatten(2))


class KeypointHead(nn.Module):
    """Predicts the anchors' positions from the features of a policy that is not told of them.

    It asks by text and pose, as the anchor attention does, so that it can find the same; only the loss knows it.
    """

    def __init__(self, width: int, cameras: int, channels: int, *, pose_query: bool) -> None:
        super().__init__()
        self.attention = AnchorAttention(width, cameras, channels, pose_query=pose_query)

    def forward(
        self,
        features: Tensor,
        text: Tensor,
        gripper_text: Tensor,
        pose: Tensor,
        places: Tensor,
        points: Tensor,
        valid: Tensor,
    ) -> Tensor:
        """Mean squared distance of the predicted anchors from the labelled ones, in halves of the image's side.

        Args:
            features: (B, C, d, h, w).
            text: (B, d).
            gripper_text: (1, d).
            pose: (B, d).
            places: (2, h, w), see `expected_places`.
            points: (B, C, K, 2), -1 to 1 from edge to edge.
            valid: (B, C, K) bool; an anchor without a label does not count.
        """
        found = expected_places(self.attention(features, text, gripper_text, pose).logits, places)
        keep = valid[..., None].to(found.dtype)
        squared: Tensor = ((found - points) ** 2 * keep).sum() / keep.sum().clamp(min=1.0)
        return squared
