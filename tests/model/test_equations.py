"""Attention, gate, flow and weights against hand-computed values (PosA-VLA Eq. 2, 3-4, 11-17)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_model

from posa_vla.geometry import project
from posa_vla.model.anchor_attention import AnchorAttention
from posa_vla.model.anchor_loss import contrastive_loss, label_maps
from posa_vla.model.flow_transformer import Context
from posa_vla.model.losses import Objective, Targets
from posa_vla.model.posa import PosA

Batch = tuple[dict[str, torch.Tensor], torch.Tensor, list[str], Targets]


@pytest.mark.parametrize("pose_query", [True, False])
def test_eq_2_attention_is_the_sigmoid_of_query_times_keys(pose_query: bool) -> None:
    torch.manual_seed(0)
    attention = AnchorAttention(8, cameras=2, channels=2, pose_query=pose_query)
    features, text, gripper, pose = torch.randn(3, 2, 8, 4, 4), torch.randn(3, 8), torch.randn(1, 8), torch.randn(3, 8)
    maps = attention(features, text, gripper, pose).maps
    attention.requires_grad_(False)
    keys = attention.key(features[1, 1][None])[0]  # (d, h, w)
    for channel, source in enumerate((text[1], gripper[0])):
        query = attention.query[channel](source + pose[1] if pose_query else source) + attention.camera[1]
        score = sum(float(query[d] * keys[d, 2, 3]) for d in range(8)) / math.sqrt(8) + float(attention.bias[channel])
        assert math.isclose(float(maps[1, 1, channel, 2, 3]), 1 / (1 + math.exp(-float(score))), rel_tol=1e-4)


def test_the_end_effector_s_query_does_not_depend_on_the_instruction() -> None:
    attention = AnchorAttention(8, cameras=1, channels=2, pose_query=False)
    features, gripper, pose = torch.randn(1, 1, 8, 4, 4), torch.randn(1, 8), torch.zeros(1, 8)
    first, second = (attention(features, torch.randn(1, 8), gripper, pose).maps for _ in range(2))
    assert torch.equal(first[:, :, 1], second[:, :, 1])
    assert not torch.equal(first[:, :, 0], second[:, :, 0])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.3, 1.5)),
    st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    st.floats(30, 150),
)
def test_labels_peak_within_half_a_pixel_of_the_true_projection(
    point: tuple[float, float, float], turn: tuple[float, float, float], focal: float
) -> None:
    size = 64
    x, y, z = turn
    quaternion = np.array([math.sqrt(max(1 - (x * x + y * y + z * z), 0.0)), x, y, z])
    quaternion /= np.linalg.norm(quaternion)
    pose = np.array([[0.05, -0.02, 0.0, *quaternion]])
    intrinsics = np.array([[focal, focal, size / 2, size / 2]])
    seen = project(np.array([point]), intrinsics, pose, size, size)
    # By hand: the camera's rotation matrix from the quaternion, then a pinhole.
    w, x, y, z = quaternion
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    in_camera = rotation.T @ (np.array(point) - pose[0, :3])
    if in_camera[2] <= 0.05:
        return
    truth = focal * in_camera[:2] / in_camera[2] + size / 2
    inside = bool((truth >= 0.5).all() and (truth <= size - 0.5).all())
    if not inside:
        return
    assert bool(seen.visible[0])
    points = torch.tensor(seen.pixels[0], dtype=torch.float32).expand(2, 2)
    for label in label_maps(points, size, size, (0.1, 1 / 15)):  # a cell is a pixel
        row, column = divmod(int(label.argmax()), size)
        assert abs(column + 0.5 - truth[0]) <= 0.5 + 1e-3
        assert abs(row + 0.5 - truth[1]) <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("gate", "expected"),
    [("max", [[5 * 0.8]]), ("sum", [[5 * 1.0]]), ("streams", [[5 * 0.2], [5 * 0.8]]), ("none", [[5.0]])],
)
def test_eq_12_the_gate(gate: str, expected: list[list[float]]) -> None:
    model = small_model(["head"], gate=gate)
    dense = torch.full((1, 1, 32, 16, 16), 5.0)
    maps = torch.tensor([0.2, 0.8]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 16, 16)
    gated = model._gated(dense, maps)
    assert gated.shape == (1, 1, len(expected), 32, 16, 16)
    torch.testing.assert_close(gated[0, 0, :, 0, 0, :1], torch.tensor(expected))


def test_eq_12_maps_are_resized_to_the_grid_of_the_features() -> None:
    model = small_model(["head"])
    ramp = torch.linspace(0, 1, 14).expand(1, 1, 2, 14, 14)
    gated = model._gated(torch.ones(1, 1, 3, 16, 16), ramp)
    across = gated[0, 0, 0, 0, 0]
    assert (across.diff() >= 0).all()
    assert math.isclose(float(across.mean()), 0.5, abs_tol=1e-3)


def test_eq_8_to_10_the_task_alone() -> None:
    text, anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    got = contrastive_loss(text, torch.zeros(1, 2), anchors, torch.tensor([0, 1]), torch.tensor(0.0))
    assert math.isclose(got.item(), math.log(1 + math.e), rel_tol=1e-5), "cosine 1 where the captions differ"


def test_eq_14_the_velocity_that_is_asked_for(model: PosA, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    images, state, texts, targets = batch
    asked: dict[str, torch.Tensor] = {}

    def flow(noisy: torch.Tensor, tau: torch.Tensor, context: Context, draws: int = 1) -> torch.Tensor:
        asked.update(noisy=noisy, tau=tau)
        return torch.zeros_like(noisy)

    monkeypatch.setattr(model.flow, "forward", flow)
    objective = Objective(model, alpha=0.5, anchor_weight=1.0, draws=1)
    got = objective(images, state, texts, targets, torch.Generator().manual_seed(5), False)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(targets.action.shape, generator=generator)
    tau = asked["tau"][:, None, None]
    torch.testing.assert_close(asked["noisy"], (1 - tau) * noise + tau * targets.action)
    torch.testing.assert_close(got["action"], ((targets.action - noise) ** 2).mean())


def test_eq_11_and_17_the_weights(model: PosA, batch: Batch) -> None:
    images, state, texts, targets = batch

    def losses(alpha: float, weight: float, anchor_only: bool) -> dict[str, torch.Tensor]:
        objective = Objective(model, alpha=alpha, anchor_weight=weight, draws=1)
        found: dict[str, torch.Tensor] = objective(
            images, state, texts, targets, torch.Generator().manual_seed(0), anchor_only
        )
        return found

    got = losses(0.3, 2.0, False)
    torch.testing.assert_close(got["anchor"], 0.3 * got["focal"] + 0.7 * got["contrastive"])
    torch.testing.assert_close(got["loss"], got["action"] + 2.0 * got["anchor"])
    alone = losses(0.3, 2.0, True)
    torch.testing.assert_close(alone["loss"], 2.0 * alone["anchor"])


def velocity_of(model: PosA, patch: pytest.MonkeyPatch, velocity: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Puts a known velocity field in the action head's place; returns a context for it."""
    patch.setattr(model.flow, "schedule", lambda taus, context: list(taus))
    patch.setattr(model.flow, "at", lambda x, conditions, context: velocity(x))
    return None


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1.1**2 * 1.0), ("heun", None)])
def test_eq_16_integration_by_hand(solver: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """dx/dtau = 0.2 x in two steps; Heun's last step is Euler's, for tau = 1 was never trained."""
    model = small_model(["head"], solver=solver, flow_steps=2)
    context = velocity_of(model, monkeypatch, lambda x: 0.2 * x)
    got = model.sample(context, torch.ones(1, 8, 3))
    by_hand = expected if expected is not None else (1 + 0.1 + 0.005) * 1.1
    torch.testing.assert_close(got, torch.full((1, 8, 3), by_hand))


def test_heun_is_nearer_to_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {}
    for solver in ("euler", "heun"):
        model = small_model(["head"], solver=solver, flow_steps=10)
        context = velocity_of(model, monkeypatch, lambda x: x)
        errors[solver] = abs(float(model.sample(context, torch.ones(1, 8, 3))[0, 0, 0]) - math.e)
    assert errors["heun"] < errors["euler"] / 3


def test_a_committed_prefix_moves_on_the_straight_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(["head"], flow_steps=4)
    seen: list[torch.Tensor] = []

    def still(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return torch.zeros_like(x)

    context = velocity_of(model, monkeypatch, still)
    noise, committed = torch.randn(1, 8, 3), torch.full((1, 2, 3), 3.0)
    got = model.sample(context, noise, committed)
    for step, x in enumerate(seen):
        torch.testing.assert_close(x[:, :2], (1 - step / 4) * noise[:, :2] + step / 4 * committed)
        torch.testing.assert_close(x[:, 2:], noise[:, 2:])
    assert torch.equal(got[:, :2], committed)
