"""The anchor labels and losses against hand-computed values (PosA-VLA Eq. 3-10)."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from posa_vla.model.anchor_loss import OMEGA_THRESHOLD, anchor_features, contrastive_loss, focal_loss, label_maps

SIGMAS = (0.1, 1 / 15)


@given(st.floats(0, 63.99), st.floats(0, 63.99))
def test_label_peaks_at_the_cell_that_holds_the_anchor(u: float, v: float) -> None:
    maps = label_maps(torch.tensor([[u, v], [u, v]]), 16, 64, SIGMAS)
    for channel in maps:
        row, column = divmod(int(channel.argmax()), 16)
        assert abs((column + 0.5) * 4 - u) <= 2.01
        assert abs((row + 0.5) * 4 - v) <= 2.01


@given(st.floats(0, 64), st.floats(0, 64))
def test_omega_is_never_empty_on_the_default_grid(u: float, v: float) -> None:
    maps = label_maps(torch.tensor([[u, v], [u, v]]), 16, 64, SIGMAS)
    assert (maps > OMEGA_THRESHOLD).flatten(1).any(1).all()


def test_label_value_is_the_gaussian_of_the_equation() -> None:
    maps = label_maps(torch.tensor([[10.0, 30.0], [10.0, 30.0]]), 16, 64, SIGMAS)
    distance = (14.0 - 10.0) ** 2 + (26.0 - 30.0) ** 2  # cell (row 6, column 3) has its centre at (14, 26)
    assert math.isclose(maps[0, 6, 3].item(), math.exp(-distance / (2 * 6.4**2)), rel_tol=1e-5)
    assert math.isclose(maps[1, 6, 3].item(), math.exp(-distance / (2 * (64 / 15) ** 2)), rel_tol=1e-5)


def test_focal_loss_of_one_cell_by_hand() -> None:
    logit, label = torch.tensor(0.5), torch.tensor(0.8)
    p = 1 / (1 + math.exp(-0.5))
    cross_entropy = -(0.8 * math.log(p) + 0.2 * math.log(1 - p))
    expected = (0.8 - p) ** 2 * cross_entropy  # the label's mass is below one and counts as one
    got = focal_loss(logit.view(1, 1, 1), label.view(1, 1, 1), torch.tensor([True]))
    assert math.isclose(got.item(), expected, rel_tol=1e-5)


def test_a_masked_label_never_moves_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 2, 8, 8, generator=generator)
    valid = torch.tensor([[True, False], [True, True], [False, False]])[:, None].expand(3, 2, 2)
    labels = torch.rand(3, 2, 2, 8, 8, generator=generator)
    other = torch.where(valid[..., None, None], labels, torch.full_like(labels, float("nan")))
    moved = torch.where(valid[..., None, None], logits, logits + 5)
    assert focal_loss(logits, labels, valid) == focal_loss(moved, other, valid)


def test_pooled_features_are_the_mean_over_omega() -> None:
    features = torch.zeros(1, 1, 2, 2, 2)
    features[0, 0, :, 0, 0] = torch.tensor([1.0, 2.0])
    features[0, 0, :, 1, 1] = torch.tensor([3.0, 4.0])
    labels = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).expand(1, 1, 2, 2, 2)
    valid = torch.tensor([[[True, False]]])
    pooled = anchor_features(features, labels, valid)
    assert pooled[0, 0].tolist() == [2.0, 3.0]
    assert pooled[0, 1].tolist() == [0.0, 0.0]


def test_contrastive_loss_of_every_part_of_z() -> None:
    text = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 2.0]])
    gripper = torch.tensor([[1.0, -2.0]])
    anchors = torch.tensor([[[1.0, 0.0], [0.0, 3.0]], [[0.0, 1.0], [2.0, 1.0]], [[5.0, 0.0], [-1.0, 1.0]]])
    captions, temperature = [0, 0, 1], 0.5
    rows = []
    for i in range(3):
        z = [*text[i].tolist(), *gripper[0].tolist(), *anchors[i, 1].tolist(), *anchors[i, 0].tolist()]
        length = math.sqrt(sum(x * x for x in z))
        rows.append([x / length for x in z])
    total = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                score = sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / temperature
                probability = 1 / (1 + math.exp(-score))
                total -= math.log(probability if captions[i] == captions[j] else 1 - probability)
    got = contrastive_loss(text, gripper, anchors, torch.tensor(captions), torch.tensor(math.log(temperature)))
    assert math.isclose(got.item(), total / 6, rel_tol=1e-5)


def test_contrastive_loss_by_hand() -> None:
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    gripper = torch.zeros(1, 2)
    anchors = torch.zeros(3, 2, 2)
    theta = torch.tensor(0.0)  # temperature 1: scores are the cosines 1, 0
    same, other = math.log(1 + math.exp(-1)), math.log(2)
    expected = (2 * same + 4 * other) / 6
    got = contrastive_loss(text, gripper, anchors, torch.tensor([0, 0, 1]), theta)
    assert math.isclose(got.item(), expected, rel_tol=1e-5)
