from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posa_vla.dataset.shards.augment import augment
from posa_vla.dataset.shards.loader import Batch


def marked_batch(u: float, v: float, count: int = 64, size: int = 12) -> Batch:
    """Black images with one white pixel, and anchors in the middle of it."""
    images = torch.zeros(count, size, size, 3, dtype=torch.uint8)
    images[:, int(v), int(u)] = 255
    points = torch.tensor([u, v]).repeat(count, 2, 1)
    return Batch(
        images={"head": images},
        state=torch.zeros(count, 1),
        action=torch.zeros(count, 1, 1),
        action_valid=torch.ones(count, 1, dtype=torch.bool),
        caption=torch.zeros(count, dtype=torch.int64),
        anchor_points={"head": points},
        anchor_valid={"head": torch.ones(count, 2, dtype=torch.bool)},
        present={"head": torch.ones(count, dtype=torch.bool)},
    )


def test_anchor_points_move_with_what_they_mark():
    moved = augment(marked_batch(6.5, 4.5), torch.Generator().manual_seed(0), shift=3, jitter=0)
    points = moved.anchor_points["head"]
    assert len({tuple(p) for p in points[:, 0].tolist()}) > 20
    for image, (u, v) in zip(moved.images["head"], points[:, 0].tolist(), strict=True):
        assert image.sum() == 3 * 255
        assert image[int(v), int(u)].tolist() == [255, 255, 255]
    assert moved.anchor_valid["head"].all()


def test_a_point_that_leaves_the_image_is_not_valid():
    moved = augment(marked_batch(0.5, 11.5), torch.Generator().manual_seed(0), shift=3, jitter=0)
    points, valid = moved.anchor_points["head"], moved.anchor_valid["head"]
    inside = ((points >= 0) & (points < 12)).all(dim=-1)
    assert torch.equal(valid, inside)
    assert valid.any()
    assert not valid.all()


def test_what_was_not_valid_stays_so():
    batch = marked_batch(6.5, 4.5)
    batch.anchor_valid["head"][:, 0] = False
    moved = augment(batch, torch.Generator().manual_seed(0), shift=2, jitter=0.1)
    assert not moved.anchor_valid["head"][:, 0].any()
    assert moved.anchor_valid["head"][:, 1].all()


def test_a_shift_repeats_the_edge():
    batch = marked_batch(6.5, 4.5)
    ramp = torch.arange(12, dtype=torch.uint8)[None, None, :, None].expand(64, 12, 12, 3)
    batch.images["head"] = ramp.contiguous()
    moved = augment(batch, torch.Generator().manual_seed(0), shift=3, jitter=0)
    offsets = moved.anchor_points["head"][:, 0, 0] - 6.5
    for image, offset in zip(moved.images["head"], offsets.long().tolist(), strict=True):
        assert image[0, :, 0].tolist() == [min(max(c - offset, 0), 11) for c in range(12)]


def test_jitter_changes_images_moderately_and_only_images():
    batch = marked_batch(6.5, 4.5)
    batch.images["head"] = torch.full((64, 12, 12, 3), 128, dtype=torch.uint8)
    changed = augment(batch, torch.Generator().manual_seed(0), shift=0, jitter=0.1)
    values = changed.images["head"].float().mean(dim=(1, 2))
    assert values.std() > 2
    assert (values - 128).abs().max() < 128 * 0.1 + 128 * 0.06 + 3
    assert torch.equal(changed.anchor_points["head"], batch.anchor_points["head"])
    assert (batch.images["head"] == 128).all()


def test_no_augmentation_changes_nothing_and_a_seed_fixes_it():
    batch = marked_batch(6.5, 4.5)
    same = augment(batch, torch.Generator().manual_seed(0), shift=0, jitter=0)
    assert torch.equal(same.images["head"], batch.images["head"])
    twice = [augment(batch, torch.Generator().manual_seed(5), shift=2, jitter=0.2).images["head"] for _ in range(2)]
    assert torch.equal(*twice)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), u=st.integers(12, 51), v=st.integers(12, 51), crop=st.floats(0.05, 0.4))
def test_a_crop_moves_points_with_what_they_mark(seed, u, v, crop):
    batch = marked_batch(u + 0.5, v + 0.5, count=8, size=64)
    batch.images["head"][:, v - 1 : v + 2, u - 1 : u + 2] = 255
    moved = augment(batch, torch.Generator().manual_seed(seed), shift=2, jitter=0, crop=crop)
    for image, point, valid in zip(
        moved.images["head"], moved.anchor_points["head"][:, 0], moved.anchor_valid["head"][:, 0], strict=True
    ):
        weight = image[..., 0].double()
        if not valid or weight[[0, -1]].any() or weight[:, [0, -1]].any():
            continue  # cut off, or smeared along the edge
        grid = torch.arange(64) + 0.5
        centre = [
            float((weight.sum(0) * grid).sum() / weight.sum()),
            float((weight.sum(1) * grid).sum() / weight.sum()),
        ]
        assert centre == pytest.approx(point.tolist(), abs=0.2)


def test_a_background_is_mixed_in_away_from_the_anchors_alone():
    batch = marked_batch(32.5, 32.5, count=64, size=64)
    batch.images["head"][:] = torch.arange(64, dtype=torch.uint8)[:, None, None, None] * 4
    batch.anchor_valid["head"][:8] = False
    mixed = augment(batch, torch.Generator().manual_seed(0), shift=0, jitter=0, background=0.5).images["head"]
    before = batch.images["head"]
    assert torch.equal(mixed[:8], before[:8])
    assert torch.equal(mixed[:, 24:41, 24:41], before[:, 24:41, 24:41])
    changed = (mixed[8:, 0, 0] != before[8:, 0, 0]).any(dim=1)
    assert 0.2 < changed.float().mean() < 0.8
    assert torch.equal(batch.images["head"][3, 0, 0], torch.tensor([12, 12, 12], dtype=torch.uint8))
