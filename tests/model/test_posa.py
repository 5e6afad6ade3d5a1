"""Behaviour of the network as a whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_models import small_model

from posa_vla.model.losses import Objective, Targets, flow_time
from posa_vla.model.posa import PosA

Batch = tuple[dict[str, torch.Tensor], torch.Tensor, list[str], Targets]


def test_one_batch_can_be_overfitted(model: PosA, batch: Batch) -> None:
    images, state, texts, targets = batch
    objective = Objective(model, alpha=0.5, anchor_weight=1.0, draws=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        loss = objective(images, state, texts, targets, generator, False)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoded = model.eval().encode(images, state, texts)
    sampled = model.sample(encoded.context, torch.randn(6, 8, 3, generator=generator))
    untrained_error = targets.action.square().mean()
    assert (sampled - targets.action).square().mean() < 0.5 * untrained_error
    for c, role in enumerate(model.config.cameras):
        for channel in range(2):
            flat = encoded.anchors.maps[:, c, channel].flatten(1).argmax(1)
            found = torch.stack([flat % 16, flat // 16], -1) * 4.0 + 2.0
            distance = (found - targets.anchor_points[role][:, channel]).norm(dim=-1)
            assert distance.median() < 6.0


def test_anchor_only_steps_leave_the_action_head_alone(model: PosA, batch: Batch) -> None:
    images, state, texts, targets = batch
    objective = Objective(model, alpha=0.5, anchor_weight=1.0, draws=4)
    objective(images, state, texts, targets, torch.Generator().manual_seed(0), True)["loss"].backward()
    assert all(p.grad is None for p in model.flow.parameters()), "its optimiser state begins with its first gradient"
    assert model.attention.bias.grad is not None
    assert model.attention.bias.grad.any()


def test_no_velocity_is_asked_for_past_the_end_of_an_episode(model: PosA, batch: Batch) -> None:
    images, state, texts, targets = batch
    valid = targets.action_valid.clone()
    valid[:, 5:] = False
    objective = Objective(model, alpha=0.5, anchor_weight=1.0, draws=4)
    results = []
    for shift in (0.0, 100.0):  # the untrained velocity is zero whatever goes in, so only the targets can differ
        action = targets.action.clone()
        action[:, 5:] += shift
        changed = dataclasses.replace(targets, action=action, action_valid=valid)
        results.append(objective(images, state, texts, changed, torch.Generator().manual_seed(0), False)["action"])
    assert results[0] == results[1]


def test_the_gate_closes_off_an_unattended_region(model: PosA, batch: Batch) -> None:
    images, state, texts, _ = batch
    encoded = model.encode(images, state, texts)
    features = encoded.features.detach().clone()
    maps = torch.zeros_like(encoded.anchors.maps)
    maps[..., 2:6, 2:6] = 1.0
    text, pose = model.text_token(encoded.text), model.pose(state)
    noise = torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.flow.out.weight.normal_()
        before = model.sample(model._context(features, features, maps, text, pose), noise)
        features[..., 8:, 8:] += 10.0
        unattended = model.sample(model._context(features, features, maps, text, pose), noise)
        features[..., 2:6, 2:6] += 10.0
        attended = model.sample(model._context(features, features, maps, text, pose), noise)
    torch.testing.assert_close(before, unattended, atol=1e-5, rtol=1e-5)
    assert (before - attended).abs().max() > 1e-3


def test_a_committed_prefix_is_kept(model: PosA, batch: Batch) -> None:
    images, state, texts, _ = batch
    context = model.encode(images, state, texts).context
    committed = torch.full((6, 3, 3), 0.25)
    sampled = model.sample(context, torch.randn(6, 8, 3), committed)
    assert torch.equal(sampled[:, :3], committed)


def test_text_never_seen_and_empty_text_are_encoded(model: PosA) -> None:
    encoded = model.texts(["pick up the red cube", "saisis le gobelet ébréché", ""])[0]
    assert encoded.isfinite().all()
    assert (encoded[0] - encoded[1]).norm() > 0.1


@pytest.mark.parametrize("variant", ["PICK UP the red  cube", "pick up the red cube.", "  pick up the red cube "])
def test_case_spacing_and_punctuation_do_not_count(model: PosA, variant: str) -> None:
    assert torch.equal(*model.texts(["pick up the red cube", variant])[0].detach().unbind())


def test_flow_time_is_noise_heavy_and_inside_its_range() -> None:
    tau = flow_time(20000, torch.Generator().manual_seed(0))
    assert tau.min() >= 0.0
    assert tau.max() <= 0.999
    assert abs(tau.mean() - (1 - (0.001 + 0.999 * 0.6))) < 0.01, "mean of 1 - t, t ~ Beta(1.5, 1)"


@pytest.mark.parametrize("cameras", [["head"], ["head", "left", "right"]])
@pytest.mark.parametrize(
    "variant",
    [
        {"gate": "sum", "solver": "heun"},
        {"gate": "streams", "channels": "task"},
        {"gate": "streams"},
        {"gate": "none", "anchor_tokens": False, "pool": 4},
        {"pose_query": False, "anchor_tokens": False},
        {"readout": "spatial_softmax", "gate": "none", "anchor_tokens": False},
        {"readout": "spatial_softmax", "gate": "streams", "anchor_tokens": False, "trunk": "flat"},
        {"contrastive_bias": False, "channels": "task"},
    ],
    ids=str,
)
def test_every_variant_learns_and_says_where_it_looks(cameras: list[str], variant: dict[str, object]) -> None:
    model = small_model(cameras, **variant)
    generator = torch.Generator().manual_seed(0)
    images = {r: torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=generator) for r in cameras}
    state, texts = torch.randn(2, 5, generator=generator), ["pick up the red cube", "pick up the blue ball"]
    points = {r: torch.rand(2, 2, 2, generator=generator) * 64 for r in cameras}
    valid = {r: torch.ones(2, 2, dtype=torch.bool) for r in cameras}
    targets = Targets(torch.randn(2, 8, 3), torch.ones(2, 8, dtype=torch.bool), torch.tensor([0, 1]), points, valid)
    objective = Objective(model, alpha=0.5, anchor_weight=1.0, draws=2, keypoint_weight=1.0)
    objective(images, state, texts, targets, generator, False)["loss"].backward()
    idle = [name for name, p in objective.named_parameters() if p.grad is None]
    assert not idle, "a distributed reducer expects every parameter in the graph"
    with torch.no_grad():
        encoded = model.encode(images, state, texts)
        chunk = model.sample(encoded.context, torch.randn(2, 8, 3, generator=generator))
        looked_at = model.looked_at(encoded.context, chunk)
    channels = 1 if variant.get("channels") == "task" else 2
    assert encoded.anchors.maps.shape == (2, len(cameras), channels, 16, 16)
    assert looked_at.shape == (2, len(cameras), model.cells, model.cells)
    assert (looked_at >= 0).all()
    assert (looked_at.sum((1, 2, 3)) < 1).all()
