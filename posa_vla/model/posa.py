"""PosA-VLA: pose encoder, anchor attention, gated features, flow-matching action head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posa_vla.model.anchor_attention import AnchorAttention, AnchorMaps
from posa_vla.model.config import ModelConfig
from posa_vla.model.features import VisualFeatures
from posa_vla.model.flow_transformer import Context, FlowTransformer
from posa_vla.model.keypoints import SpatialSoftmax
from posa_vla.model.pose_encoder import PoseEncoder
from posa_vla.model.tokenizer import Tokenizer

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
        pose: (B, d) embedding of the state.
    """

    features: Tensor
    text: Tensor
    gripper_text: Tensor
    anchors: AnchorMaps
    context: Context
    pose: Tensor


class PosA(nn.Module):
    """The policy network; inputs and outputs are normalised (see `normalisation.py`).

    Attributes:
        vision: (N, H, W, 3) uint8 -> `VisualFeatures`; it says its `grid`, `dense_grid` and `dense_width`.
        language: (B, L) tokens -> (B, d).
        tokenizer: Texts to tokens.
    """

    def __init__(self, config: ModelConfig, vision: nn.Module, language: nn.Module, tokenizer: Tokenizer) -> None:
        super().__init__()
        p, cameras = config.params, len(config.cameras)
        self.config = config
        self.tokenizer = tokenizer
        self.vision = vision
        self.language = language
        self.grid, self.dense_grid = _whole(vision, "grid"), _whole(vision, "dense_grid")
        width = _whole(vision, "dense_width")
        self.pose = PoseEncoder(config.state_dim, p.width)
        self.attention = AnchorAttention(p.width, cameras, len(config.channels), pose_query=p.pose_query)
        self.theta = nn.Parameter(torch.tensor(0.07).log())
        # Most pairs of a batch have different captions: from here their gradient starts small (SigLIP, section 3.2).
        self.contrastive_bias = nn.Parameter(torch.tensor(-10.0)) if p.contrastive_bias else None

        self.pool = nn.AvgPool2d(p.pool)
        self.cells = self.dense_grid // p.pool
        streams = len(config.channels) if p.gate == "streams" else 1
        if p.readout == "spatial_softmax":
            self.keypoints = SpatialSoftmax(streams * width, cameras, p.flow_width)
            self.register_buffer("dense_places", _places(self.dense_grid), False)
        else:
            self.patch_token = nn.Linear(width, p.flow_width)
            self.patch_position = nn.Parameter(torch.randn(cameras, streams * self.cells**2, p.flow_width) * 0.02)
        self.text_token = nn.Linear(p.width, p.flow_width)
        self.pose_token = nn.Linear(p.width, p.flow_width)
        summarised = cameras + 2
        if p.anchor_tokens:
            self.anchor_token = nn.Linear(p.width + 3, p.flow_width)
            self.anchor_kind = nn.Parameter(torch.randn(cameras, len(config.channels), p.flow_width) * 0.02)
            summarised = cameras * len(config.channels) + 1
        self.summary = nn.Sequential(
            nn.Linear(summarised * p.flow_width, p.flow_width), nn.GELU(), nn.Linear(p.flow_width, p.flow_width)
        )
        self.flow = FlowTransformer(config.chunk_dim, p.horizon, p.flow_width, p.flow_layers, p.flow_heads)
        self.register_buffer("places", _places(self.grid), False)

    def texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """f_x (B, d) of B instructions, each different one encoded once, and f_e (1, d)."""
        distinct = sorted(set(texts))
        device = self.theta.device
        encoded = self.language(self.tokenizer([*distinct, GRIPPER_WORD]).to(device))
        rows = torch.tensor([distinct.index(text) for text in texts], device=device)
        return encoded[rows], encoded[-1:]

    def encode(
        self,
        images: Mapping[str, Tensor],
        state: Tensor,
        texts: Sequence[str],
        present: Mapping[str, Tensor] | None = None,
    ) -> Encoded:
        """Encodes observations once; the result serves all flow steps.

        Args:
            images: Role -> uint8 (B, H, W, 3).
            state: (B, S), normalised.
            texts: B instructions.
            present: Role -> bool (B,): the tokens of a camera that is not there are zero for the action head. All are
                there if None.
        """
        return self.observe(images, state, *self.texts(texts), present)

    def observe(
        self,
        images: Mapping[str, Tensor],
        state: Tensor,
        text: Tensor,
        gripper_text: Tensor,
        present: Mapping[str, Tensor] | None = None,
    ) -> Encoded:
        """`encode` with texts that are encoded already."""
        stacked = torch.stack([images[role] for role in self.config.cameras], 1)
        seen: VisualFeatures = self.vision(stacked.flatten(0, 1))
        features = seen.attended.view(*stacked.shape[:2], *seen.attended.shape[1:])
        dense = seen.dense.view(*stacked.shape[:2], *seen.dense.shape[1:])
        pose = self.pose(state)
        anchors = self.attention(features, text, gripper_text, pose)
        there = None if present is None else torch.stack([present[role] for role in self.config.cameras], 1)
        context = self._context(features, dense, anchors.maps, self.text_token(text), pose, there)
        return Encoded(features, text, gripper_text, anchors, context, pose)

    def _gated(self, dense: Tensor, maps: Tensor) -> Tensor:
        """F_ref = M * F_DINO (Eq. 12): (B, C, streams, e, k, l); the maps are resized where the grids differ."""
        if maps.shape[-2:] != dense.shape[-2:]:
            size = (dense.shape[-2], dense.shape[-1])
            maps = F.interpolate(maps.flatten(0, 1), size, mode="bilinear").view(*maps.shape[:3], *size)
        match self.config.params.gate:
            case "max" | "auto":
                return (dense * maps.amax(2, keepdim=True))[:, :, None]
            case "sum":
                return (dense * maps.sum(2, keepdim=True))[:, :, None]
            case "streams":
                return dense[:, :, None] * maps[:, :, :, None]
            case "none":
                return dense[:, :, None]

    def _context(
        self,
        features: Tensor,
        dense: Tensor,
        maps: Tensor,
        text_token: Tensor,
        pose: Tensor,
        there: Tensor | None = None,
    ) -> Context:
        """Conditions of the action head: {F_ref, f_x, state} (Eq. 13).

        Besides the gated patches, each attention channel may give one token: its attended feature, the image position
        that it points at (the expectation of the cells' coordinates under M) and how sure it is. The pooled vector is
        made of these, or without them of the cameras' mean patches (or positions) and the text; and of the pose.
        """
        batch, cameras = features.shape[:2]
        gated = self._gated(dense, maps)
        if self.config.params.readout == "spatial_softmax":
            patches, pooled = self.keypoints(gated.flatten(2, 3), self.get_buffer("dense_places"))
        else:
            patches = self.pool(gated.flatten(0, 2)).flatten(2).transpose(1, 2)
            patches = self.patch_token(patches).view(batch, cameras, -1, self.flow.width) + self.patch_position
            pooled = patches.mean(2)
        if there is not None:
            patches, pooled = patches * there[..., None, None], pooled * there[..., None]
        pose_token = self.pose_token(pose)
        tokens = [patches.flatten(1, 2), text_token[:, None], pose_token[:, None]]
        if self.config.params.anchor_tokens:
            points = self._anchor_tokens(features, maps)
            if there is not None:
                points = points * there[..., None, None]
            tokens.insert(1, points.flatten(1, 2))
            summary = self.summary(torch.cat([points.flatten(1), pose_token], -1))
        else:
            summary = self.summary(torch.cat([pooled.flatten(1), text_token, pose_token], -1))
        return self.flow.context(torch.cat(tokens, 1), summary)

    def _anchor_tokens(self, features: Tensor, maps: Tensor) -> Tensor:
        weights = maps.flatten(3)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-4)
        attended = torch.einsum("bckn,bcdn->bckd", weights, features.flatten(3))
        where = torch.einsum("bckn,xn->bckx", weights, self.get_buffer("places").flatten(1))
        sure = maps.flatten(3).amax(-1, keepdim=True)
        points: Tensor = self.anchor_token(torch.cat([attended, where, sure], -1)) + self.anchor_kind
        return points

    def sample(
        self, context: Context, noise: Tensor, committed: Tensor | None = None, steps: int | None = None
    ) -> Tensor:
        """Integrates the flow from noise to a chunk by Euler's or Heun's method (Eq. 16).

        Args:
            context: Encoded observations, B of them.
            noise: (B, H, A) standard normal.
            committed: (B, K, A) normalised actions that the chunk must start with: they are held on the straight
                path between their noise and themselves, so that the rest is drawn to continue them (inpainting, as
                in real-time chunking, Black et al. 2025).
            steps: Steps of the integration; the configuration's if None.
        """
        x = noise
        steps = steps or self.config.params.flow_steps
        schedule = self.flow.schedule([step / steps for step in range(steps)], context)
        for step in range(steps):
            x = self._held(x, noise, committed, step / steps)
            velocity = self.flow.at(x, schedule[step], context)
            # Heun's second evaluation at tau = 1 lies outside of what was trained (tau < 1).
            if self.config.params.solver == "heun" and step + 1 < steps:
                ahead = self._held(x + velocity / steps, noise, committed, (step + 1) / steps)
                velocity = 0.5 * (velocity + self.flow.at(ahead, schedule[step + 1], context))
            x = x + velocity / steps
        return self._held(x, noise, committed, 1.0)

    @staticmethod
    def _held(x: Tensor, noise: Tensor, committed: Tensor | None, tau: float) -> Tensor:
        if committed is None:
            return x
        k = committed.shape[1]
        return torch.cat([(1 - tau) * noise[:, :k] + tau * committed, x[:, k:]], 1)

    def looked_at(self, context: Context, chunk: Tensor, steps: int | None = None) -> Tensor:
        """Where the action head's cross-attention lies as a chunk is finished, summed over the streams.

        Args:
            context: Encoded observations, B of them.
            chunk: (B, H, A), normalised, as `sample` returned it.
            steps: Steps that `sample` took; the configuration's if None.

        Returns:
            (B, C, k, l), the share of each cell, mean over layers, heads and actions; what is left of 1 went to the
            anchor, text and pose tokens. Zero where the action head sees positions: they belong to no cell.
        """
        if self.config.params.readout == "spatial_softmax":
            return chunk.new_zeros(len(chunk), len(self.config.cameras), self.cells, self.cells)
        last = 1 - 1 / (steps or self.config.params.flow_steps)
        weights = self.flow.cross_attention(chunk, torch.full((len(chunk),), last, device=chunk.device), context)
        cameras, cells = len(self.config.cameras), self.cells
        patches = weights[:, : cameras * self.patch_position.shape[1]]
        return patches.reshape(len(chunk), cameras, -1, cells, cells).sum(2)


def _places(grid: int) -> Tensor:
    """(2, grid, grid), each cell's (x, y), -1 to 1 from edge to edge."""
    line = (torch.arange(grid) + 0.5) / grid * 2 - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"))


def _whole(module: nn.Module, name: str) -> int:
    value = getattr(module, name)
    assert isinstance(value, int)  # for the type checker
    return value
