"""Augmentation of a batch as whole tensors; anchor labels move with their image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from posa_vla.dataset.shards.loader import Batch

# A background leaves this much around each anchor as it is, as a share of the image's side.
_KEPT = 0.2
# The most of another image that is mixed into a background.
_MIXED = 0.6


def _shift(images: Tensor, offsets: Tensor, shift: int) -> Tensor:
    """Moves each image by its own (right, down) offset in pixels; the edge is repeated.

    Every shifted image is a window of the padded one, so that whole rows of pixels are copied.
    """
    count, height, width, channels = images.shape
    left, right = (edge.expand(-1, -1, shift, -1) for edge in (images[:, :, :1], images[:, :, -1:]))
    wide = torch.cat([left, images, right], dim=2)
    above, below = (edge.expand(-1, shift, -1, -1) for edge in (wide[:, :1], wide[:, -1:]))
    padded = torch.cat([above, wide, below], dim=1).flatten(2)
    windows = padded.unfold(1, height, 1).unfold(2, width * channels, channels)
    return windows[torch.arange(count), shift - offsets[:, 1], shift - offsets[:, 0]].reshape(images.shape)


def _jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Random contrast about mid-grey, brightness, and a gain of each colour half as strong, one draw an image."""
    count = len(images)
    contrast = 1 + strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    gain = 1 + 0.5 * strength * (2 * torch.rand(count, 1, 1, 3, generator=generator) - 1)
    brightness = 127.5 * strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    scale = contrast * gain
    # One multiplication and one addition a pixel; the half rounds to nearest on the way back to integers.
    offset = (127.5 * (1 - contrast) + brightness) * gain + 0.5
    return images.float().mul_(scale).add_(offset).clamp_(0, 255).to(torch.uint8)


def _background(images: Tensor, points: Tensor, valid: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Mixes another image of the batch into what lies far from the anchors (random overlay, Hansen and Wang 2021).

    What the labels name stays as it is, and so does a whole image that has no valid anchor: nothing says what in it
    matters.
    """
    count, height, width, _ = images.shape
    weight = torch.rand(count, generator=generator) * _MIXED
    weight *= (torch.rand(count, generator=generator) < share) & valid.any(dim=1)
    chosen = torch.nonzero(weight).flatten()
    others = torch.randperm(count, generator=generator)
    if not len(chosen):
        return images
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    mask = torch.ones(len(chosen), height, width)
    for anchor in range(points.shape[1]):
        near_rows = (rows - points[chosen, anchor, 1, None]).square()
        near_columns = (columns - points[chosen, anchor, 0, None]).square()
        near = near_rows[:, :, None] + near_columns[:, None, :] < (_KEPT * height) ** 2
        mask[near & valid[chosen, anchor, None, None]] = 0
    mask = (mask * weight[chosen, None, None])[..., None]
    mixed = images[chosen].float() * (1 - mask) + images[others[chosen]].float() * mask
    result = images.clone()
    result[chosen] = (mixed + 0.5).clamp_(0, 255).to(torch.uint8)
    return result


def _zoom(images: Tensor, points: Tensor, generator: torch.Generator, crop: float) -> tuple[Tensor, Tensor]:
    """Cuts a square of at least 1 - `crop` of each side out of each image, anywhere, and enlarges it to the whole."""
    count, height, width, _ = images.shape
    side = 1 - crop * torch.rand(count, generator=generator)
    left, top = ((1 - side) * torch.rand(count, generator=generator) for _ in range(2))
    # Sampling coordinates run from -1 to 1 over the image, edges included.
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = 2 * left + side - 1, 2 * top + side - 1
    grid = torch.nn.functional.affine_grid(theta, [count, 3, height, width], align_corners=False)
    pictures = images.permute(0, 3, 1, 2).float()
    zoomed = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    origin = torch.stack([left * width, top * height], dim=1)[:, None]
    return (zoomed + 0.5).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1), (points - origin) / side[:, None, None]


def augment(
    batch: Batch,
    generator: torch.Generator,
    shift: int,
    jitter: float,
    *,
    crop: float = 0.0,
    background: float = 0.0,
    camera_dropout: float = 0.0,
) -> Batch:
    """Changes background, crop, position and colours of every image by its own draw; anchor points move along.

    Args:
        batch: Samples.
        generator: Source of all randomness.
        shift: Largest shift along each axis, pixels; 0 for none.
        jitter: Strength of the colour change, 0 for none.
        crop: Largest share of each side that is cut off before the rest is enlarged, 0 for none.
        background: Share of the images that get another background, 0 for none.
        camera_dropout: Share of the samples in which the action head does not see a camera, drawn for each camera; one
            that is there stays.

    Returns:
        A batch with new images and anchors; a point that left its image is not valid any more.
    """
    images, points, valid = dict(batch.images), dict(batch.anchor_points), dict(batch.anchor_valid)
    for role, picture in batch.images.items():
        if background:
            picture = _background(picture, points[role], valid[role], generator, background)
        if crop:
            picture, points[role] = _zoom(picture, points[role], generator, crop)
        if shift:
            offsets = torch.randint(-shift, shift + 1, (len(picture), 2), generator=generator)
            picture = _shift(picture, offsets, shift)
            points[role] = points[role] + offsets[:, None, :]
        if crop or shift:
            size = torch.tensor([picture.shape[2], picture.shape[1]])
            valid[role] = valid[role] & ((points[role] >= 0) & (points[role] < size)).all(dim=-1)
        if jitter:
            picture = _jitter(picture, generator, jitter)
        images[role] = picture
    present = _dropped(batch.present, generator, camera_dropout) if camera_dropout else batch.present
    return replace(batch, images=images, anchor_points=points, anchor_valid=valid, present=present)


def _dropped(present: dict[str, Tensor], generator: torch.Generator, share: float) -> dict[str, Tensor]:
    there = torch.stack(list(present.values()), 1)
    draws = torch.rand(there.shape, generator=generator)
    # The camera with the largest draw, of those that are there, is never taken.
    stays = torch.where(there, draws, -1.0).argmax(1, keepdim=True)
    kept = there & ((draws >= share) | (torch.arange(there.shape[1]) == stays))
    return dict(zip(present, kept.unbind(1), strict=True))
