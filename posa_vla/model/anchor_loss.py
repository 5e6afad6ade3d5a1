"""Anchor labels as maps, and the anchor loss (PosA-VLA Eq. 3-11)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

OMEGA_THRESHOLD = 0.7


def label_maps(points: Tensor, grid: int, image_size: int, sigmas: tuple[float, float]) -> Tensor:
    """F_task and each F_end on the anchor grid (Eq. 3-4).

    Args:
        points: (..., 1 + E, 2) anchors (task, each end effector) as (u, v) in pixels, continuous image coordinates.
        grid: Cells along each side.
        image_size: Pixels along each side.
        sigmas: Widths (task, end) as a fraction of the image's side.

    Returns:
        (..., 1 + E, grid, grid), exp(-distance^2 / 2 sigma^2) at each cell's centre.
    """
    centres = (torch.arange(grid, device=points.device) + 0.5) * (image_size / grid)
    width = torch.tensor([sigmas[0], *[sigmas[1]] * (points.shape[-2] - 1)], device=points.device)[:, None] * image_size
    across = torch.exp(-((centres - points[..., 0:1]) ** 2) / (2 * width**2))
    down = torch.exp(-((centres - points[..., 1:2]) ** 2) / (2 * width**2))
    return down[..., :, None] * across[..., None, :]


def focal_loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """L_f (Eq. 5) with soft targets: |t - p|^2 * BCE, per unit of label mass, over the labelled channels.

    Dividing by the label's mass keeps the loss's size independent of the grid and of how small the anchors are.

    Args:
        logits: (..., K, h, w).
        labels: Same shape, in [0, 1].
        valid: (..., K) bool; a channel without a label does not count.
    """
    keep = valid[..., None, None].to(logits.dtype)
    labels = labels.nan_to_num(0.0)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    cells = (labels - logits.sigmoid()) ** 2 * cross_entropy * keep
    return cells.sum() / (labels * keep).sum().clamp(min=1.0)


def anchor_features(features: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """v_obj and v_end (Eq. 6-7): features averaged over Omega+, the cells whose label exceeds 0.7.

    Args:
        features: (B, C, d, h, w).
        labels: (B, C, K, h, w).
        valid: (B, C, K) bool.

    Returns:
        (B, K, d), over all cameras' Omega+ together; zero where Omega+ is empty.
    """
    omega = ((labels > OMEGA_THRESHOLD) & valid[..., None, None]).to(features.dtype)
    total = torch.einsum("bcdhw,bckhw->bkd", features, omega)
    return total / omega.sum((1, 3, 4)).clamp(min=1.0)[..., None]


def contrastive_loss(
    text: Tensor, gripper_text: Tensor, anchors: Tensor, captions: Tensor, theta: Tensor, bias: Tensor | None = None
) -> Tensor:
    """L_c (Eq. 8-10) over all pairs of a batch; y = 1 where the captions are the same.

    Args:
        text: (B, d) f_x.
        gripper_text: (1, d) f_e.
        anchors: (B, 1 + E, d) v_obj and v_end of each end effector, or (B, 1, d) v_obj where the task's is the only
            channel: z = [f_x; v_obj].
        captions: (B,) caption numbers.
        theta: Learned log temperature.
        bias: Learned offset of the scores, which makes the loss SigLIP's; Eq. 10 has none.
    """
    if len(text) < 2:
        learned = theta if bias is None else theta + bias
        return (text.sum() + learned) * 0.0  # a distributed reducer expects every parameter in the graph
    parts = [text, anchors[:, 0]]
    if anchors.shape[1] > 1:
        parts = [text, gripper_text.expand_as(text), *anchors[:, 1:].unbind(1), anchors[:, 0]]
    z = F.normalize(torch.cat(parts, dim=1), dim=1)
    scores = z @ z.T / theta.exp()
    if bias is not None:
        scores = scores + bias
    same = (captions[:, None] == captions[None, :]).to(scores.dtype)
    pairs = ~torch.eye(len(text), dtype=torch.bool, device=text.device)
    return F.binary_cross_entropy_with_logits(scores[pairs], same[pairs])
