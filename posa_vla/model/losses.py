"""The training objective: L = L_action + lambda L_anchor (PosA-VLA Eq. 11, 14, 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posa_vla.model.anchor_loss import anchor_features, contrastive_loss, focal_loss, label_maps
from posa_vla.model.flow_transformer import Context
from posa_vla.model.keypoints import KeypointHead
from posa_vla.model.posa import PosA


@dataclass(frozen=True)
class Targets:
    """The supervision of a batch.

    Attributes:
        action: (B, H, A), normalised.
        action_valid: (B, H) bool; false past the end of the episode.
        captions: (B,) caption numbers.
        anchor_points: Role -> (B, 1 + E, 2) pixels (u, v), the task's and each end effector's.
        anchor_valid: Role -> (B, 1 + E) bool.
        present: Role -> (B,) bool, whether the action head sees the camera; it sees all if None.
    """

    action: Tensor
    action_valid: Tensor
    captions: Tensor
    anchor_points: Mapping[str, Tensor]
    anchor_valid: Mapping[str, Tensor]
    present: Mapping[str, Tensor] | None = None


def flow_time(count: int, generator: torch.Generator) -> Tensor:
    """Tau = 1 - t with t ~ Beta(1.5, 1) on [0.001, 1]: more weight on noisy chunks; (count,)."""
    t = torch.rand(count, generator=generator) ** (1 / 1.5)  # inverse CDF of Beta(1.5, 1)
    return 1 - (0.001 + 0.999 * t)


class Objective(nn.Module):
    """The loss as a module, so that a distributed wrapper sees one forward pass a step."""

    def __init__(
        self, model: PosA, *, alpha: float, anchor_weight: float, draws: int, keypoint_weight: float = 0.0
    ) -> None:
        """Wraps a model.

        Args:
            model: Model that is trained.
            alpha: Share of the focal loss in the anchor loss (Eq. 11).
            anchor_weight: lambda (Eq. 17).
            draws: Noise and flow times for each observation.
            keypoint_weight: Weight of the auxiliary loss on the anchors' positions; its head is no part of the policy.
        """
        super().__init__()
        self.model = model
        self.alpha = alpha
        self.anchor_weight = anchor_weight
        self.draws = draws
        self.keypoint_weight = keypoint_weight
        config = model.config
        self.keypoints = (
            KeypointHead(
                config.params.width,
                len(config.cameras),
                len(config.channels),
                pose_query=config.params.pose_query,
            )
            if keypoint_weight
            else None
        )

    def forward(
        self,
        images: Mapping[str, Tensor],
        state: Tensor,
        texts: Sequence[str],
        targets: Targets,
        generator: torch.Generator,
        anchor_only: bool,
    ) -> dict[str, Tensor]:
        """Scalars `loss`, `anchor`, `focal`, `contrastive`, and `action` and `keypoint` where the loss has them.

        Args:
            images: Role -> uint8 (B, H, W, 3).
            state: (B, S), normalised.
            texts: B instructions.
            targets: Supervision.
            generator: Source of noise and flow times.
            anchor_only: Whether `loss` leaves the action out (the first steps of a training). What it does not reach
                gets no gradient, so that its optimiser state begins with the first one that it gets.
        """
        config, channels = self.model.config, len(self.model.config.channels)
        encoded = self.model.encode(images, state, texts, targets.present)
        points = torch.stack([targets.anchor_points[role] for role in config.cameras], 1)
        valid = torch.stack([targets.anchor_valid[role] for role in config.cameras], 1)
        points = torch.where(valid[..., None], points, torch.zeros_like(points))
        labels = label_maps(points, self.model.grid, config.image_size, (config.sigma_task, config.sigma_end))
        labels, valid = labels[:, :, :channels], valid[:, :, :channels]
        focal = focal_loss(encoded.anchors.logits, labels, valid)
        pooled = anchor_features(encoded.features, labels, valid)
        contrastive = contrastive_loss(
            encoded.text,
            encoded.gripper_text,
            pooled,
            targets.captions,
            self.model.theta,
            self.model.contrastive_bias,
        )
        anchor = self.alpha * focal + (1 - self.alpha) * contrastive
        loss, parts = self.anchor_weight * anchor, {"anchor": anchor, "focal": focal, "contrastive": contrastive}
        if self.keypoints is not None:
            places = self.model.get_buffer("places")
            sides = points[:, :, :channels] / config.image_size * 2 - 1
            asked = (encoded.features, encoded.text, encoded.gripper_text, encoded.pose)
            parts["keypoint"] = self.keypoints(*asked, places, sides, valid)
            loss = loss + self.keypoint_weight * parts["keypoint"]
        if anchor_only:
            return {"loss": loss, **parts}
        action = _action_loss(self.model, encoded.context, targets, generator, self.draws)
        return {"loss": loss + action, "action": action, **parts}


def _action_loss(model: PosA, context: Context, targets: Targets, generator: torch.Generator, draws: int) -> Tensor:
    action = targets.action.repeat_interleave(draws, 0)
    noise = torch.randn(action.shape, generator=generator).to(action.device)
    tau = flow_time(len(action), generator).to(action.device)
    noisy = (1 - tau)[:, None, None] * noise + tau[:, None, None] * action
    velocity = model.flow(noisy, tau, context, draws)
    weight = targets.action_valid.repeat_interleave(draws, 0)[..., None].to(action.dtype)
    squared = (velocity - (action - noise)) ** 2 * weight
    loss: Tensor = squared.sum() / (weight.sum() * action.shape[-1]).clamp(min=1.0)
    return loss
