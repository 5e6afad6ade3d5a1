"""PosA-VLA: pose encoder, anchor attention, gated features, flow-matching action head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posa_vla.model.anchor_attention import CHANNELS, AnchorAttention, AnchorMaps
from posa_vla.model.config import ModelConfig
from posa_vla.model.flow_transformer import Context, FlowTransformer
from posa_vla.model.pose_encoder import PoseEncoder
from posa_vla.model.text import TextEncoder
from posa_vla.model.vision import VisionEncoder

GRIPPER_WORD = "gripper"


@dataclass(frozen=True)
class Encoded:
    """What the encoders and the anchor attention make of B observations.

    Attributes:
        features: (B, C, d, h, w) F_I.
        text: (B, d) f_x.
        gripper_text: (1, d) f_e.
        anchors: Attention of every camera.
        context: What the action head attends to.
    """

    features: Tensor
    text: Tensor
    gripper_text: Tensor
    anchors: AnchorMaps
    context: Context


class PosA(nn.Module):
    """The policy network; inputs and outputs are normalised (see `normalisation.py`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        p = config.params
        self.config = config
        self.vision = VisionEncoder(config.image_size, p.grid, p.width)
        self.language = TextEncoder(p.width)
        self.pose = PoseEncoder(config.state_dim, p.width)
        self.attention = AnchorAttention(p.width, len(config.cameras), pose_query=p.pose_query)
        self.theta = nn.Parameter(torch.tensor(0.07).log())

        self.pool = nn.AvgPool2d(2)
        cells = p.grid // 2
        self.patch_token = nn.Linear(p.width, p.flow_width)
        self.patch_position = nn.Parameter(torch.randn(len(config.cameras), cells * cells, p.flow_width) * 0.02)
        self.anchor_token = nn.Linear(p.width + 3, p.flow_width)
        self.anchor_kind = nn.Parameter(torch.randn(len(config.cameras), len(CHANNELS), p.flow_width) * 0.02)
        self.text_token = nn.Linear(p.width, p.flow_width)
        self.pose_token = nn.Linear(p.width, p.flow_width)
        anchors = len(config.cameras) * len(CHANNELS)
        self.summary = nn.Sequential(
            nn.Linear((anchors + 1) * p.flow_width, p.flow_width), nn.GELU(), nn.Linear(p.flow_width, p.flow_width)
        )
        self.flow = FlowTransformer(config.action_dim, p.horizon, p.flow_width, p.flow_layers, p.flow_heads)
        line = (torch.arange(p.grid) + 0.5) / p.grid * 2 - 1
        self.register_buffer("cells", torch.stack(torch.meshgrid(line, line, indexing="xy")), False)

    def encode(self, images: Mapping[str, Tensor], state: Tensor, texts: Sequence[str]) -> Encoded:
        """Encodes observations once; the result serves all flow steps.

        Args:
            images: Role -> uint8 (B, H, W, 3).
            state: (B, S), normalised.
            texts: B instructions.
        """
        stacked = torch.stack([images[role] for role in self.config.cameras], 1)
        features = self.vision(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2])
        distinct = sorted(set(texts))
        encoded = self.language([*distinct, GRIPPER_WORD])
        text = encoded[[distinct.index(t) for t in texts]]
        gripper_text = encoded[-1:]
        pose = self.pose(state)
        anchors = self.attention(features, text, gripper_text, pose)
        return Encoded(
            features, text, gripper_text, anchors, self._context(features, anchors.maps, self.text_token(text), pose)
        )

    def _context(self, features: Tensor, maps: Tensor, text_token: Tensor, pose: Tensor) -> Context:
        """Conditions of the action head: F_ref = M * F (gate: the larger channel), f_x, state.

        Besides the gated patches, each attention channel gives one token: its attended feature, the image position
        that it points at (the expectation of the cells' coordinates under M) and how sure it is.
        """
        batch, cameras = features.shape[:2]
        gated = features * maps.amax(2, keepdim=True)
        patches = self.pool(gated.flatten(0, 1)).flatten(2).transpose(1, 2)
        patches = self.patch_token(patches).unflatten(0, (batch, cameras)) + self.patch_position

        weights = maps.flatten(3)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-4)
        attended = torch.einsum("bckn,bcdn->bckd", weights, features.flatten(3))
        where = torch.einsum("bckn,xn->bckx", weights, self.get_buffer("cells").flatten(1))
        sure = maps.flatten(3).amax(-1, keepdim=True)
        points = self.anchor_token(torch.cat([attended, where, sure], -1)) + self.anchor_kind

        pose_token = self.pose_token(pose)
        summary = self.summary(torch.cat([points.flatten(1), pose_token], -1))
        tokens = torch.cat([patches.flatten(1, 2), points.flatten(1, 2), text_token[:, None], pose_token[:, None]], 1)
        return self.flow.context(tokens, summary)

    def sample(self, context: Context, noise: Tensor, committed: Tensor | None = None) -> Tensor:
        """Integrates the flow from noise to a chunk with Euler steps (Eq. 16).

        Args:
            context: Of B observations.
            noise: (B, H, A) standard normal.
            committed: (B, K, A) normalised actions that the chunk must start with: they are held on the straight
                path between their noise and themselves, so that the rest is drawn to continue them.
        """
        x = noise
        steps = self.config.params.flow_steps
        for step in range(steps):
            tau = step / steps
            if committed is not None:
                k = committed.shape[1]
                x = torch.cat([(1 - tau) * noise[:, :k] + tau * committed, x[:, k:]], 1)
            x = x + self.flow(x, torch.full((len(x),), tau, device=x.device), context) / steps
        if committed is not None:
            x = torch.cat([committed, x[:, committed.shape[1] :]], 1)
        return x
