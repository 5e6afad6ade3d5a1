"""Anchor attention: where the policy looks, by text and pose (PosA-VLA Eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AnchorMaps:
    """Attention logits and maps.

    Attributes:
        logits: (B, C, K, h, w) for C cameras and K channels: task, and each end-effector that has one.
        maps: sigmoid of the logits, M in [0, 1].
    """

    logits: Tensor
    maps: Tensor


class AnchorAttention(nn.Module):
    """M = sigmoid(q . K / sqrt(d) + b), one query a channel.

    The task channel's query is the instruction f_x, an end-effector channel's is f_e, the text feature of the word
    "gripper", through a network of its own that learns which of several it is. With `pose_query` the pose encoder's
    embedding is added to each. A sigmoid with a learned bias stands in for a softmax, which would be constant over a
    single text token.
    """

    def __init__(self, width: int, cameras: int, channels: int, *, pose_query: bool) -> None:
        super().__init__()
        self.pose_query = pose_query
        self.channels = channels
        self.query = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(channels)
        )
        self.key = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.camera = nn.Parameter(torch.randn(cameras, width) * 0.02)
        # sigmoid(-3): the maps start nearly closed, as the labels are nearly everywhere
        self.bias = nn.Parameter(torch.full((channels,), -3.0))
        self.scale = width**-0.5

    def forward(self, features: Tensor, text: Tensor, gripper_text: Tensor, pose: Tensor) -> AnchorMaps:
        """Computes where each channel looks.

        Args:
            features: (B, C, d, h, w) patch features F_I of C cameras.
            text: (B, d) f_x.
            gripper_text: (1, d) f_e.
            pose: (B, d) pose embedding.
        """
        batch, cameras, width, h, w = features.shape
        queries, end = [], gripper_text.expand_as(text)
        for number, channel in enumerate(self.query):
            source = text if number == 0 else end
            queries.append(channel(source + pose if self.pose_query else source))
        query = torch.stack(queries, 1)[:, None] + self.camera[None, :, None]  # (B, C, K, d)
        keys = self.key(features.flatten(0, 1)).reshape(batch * cameras, width, h * w)
        logits = torch.bmm(query.reshape(batch * cameras, self.channels, width), keys) * self.scale
        logits = logits.view(batch, cameras, self.channels, h, w) + self.bias[:, None, None]
        return AnchorMaps(logits, logits.sigmoid())
