"""Flow-matching transformer: a velocity field over action chunks (PosA-VLA Eq. 12-16)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Context:
    """An encoded observation, computed once a chunk and reused over the flow steps.

    Attributes:
        keys_values: For each layer, keys and values (B, heads, tokens, d / heads) of the observation tokens.
        summary: (B, d) pooled observation for the adaptive layer norms.
    """

    keys_values: list[tuple[Tensor, Tensor]]
    summary: Tensor


def _weights(query: Tensor, keys: Tensor) -> Tensor:
    # The query is scaled, and not the scores, of which there are more.
    return torch.softmax(query * query.shape[-1] ** -0.5 @ keys.transpose(-1, -2), dim=-1)


def _attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax attention; on a CPU spelled out where gradients are wanted, of which the fused kernel's are slow."""
    if query.is_cuda or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, keys, values).transpose(-2, -3).flatten(-2)
    return (_weights(query, keys) @ values).transpose(-2, -3).flatten(-2)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-2, -3)


class _Block(nn.Module):
    """DiT block: adaptive layer norm, self-attention over the chunk, cross-attention to the observation, MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 9 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():  # gates start open a little: faster than DiT's closed gates on short trainings
            self.modulation.bias.view(9, width)[2::3] = 0.5
        self.register_buffer("unit", torch.tensor([0.0, 1.0, 0.0] * 3)[:, None, None], False)

    def modulated(self, condition: Tensor) -> Tensor:
        """The adaptive norms' (..., 9, 1, d) of a condition (..., d): shift, 1 + scale and gate of each of three."""
        modulation: Tensor = self.modulation(F.silu(condition)).unflatten(-1, (9, 1, -1))
        return modulation + self.get_buffer("unit")

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        keys_values: tuple[Tensor, Tensor],
        draws: int,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        shift, scale, gate, cross_shift, cross_scale, cross_gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(-3)
        q, k, v = self.qkv(torch.addcmul(shift, self.norm(x), scale)).chunk(3, dim=-1)
        attended = _attend(_split(q, self.heads), _split(k, self.heads), _split(v, self.heads))
        x = torch.addcmul(x, gate, self.self_out(attended))

        query = self.cross_q(torch.addcmul(cross_shift, self.norm(x), cross_scale))
        rows, steps, width = query.shape
        query = query.view(rows // draws, draws * steps, width)  # the draws of an observation share its keys
        if seen is not None:
            seen.append(_weights(_split(query, self.heads), keys_values[0]).mean((1, 2)))
        attended = _attend(_split(query, self.heads), *keys_values)
        x = torch.addcmul(x, cross_gate, self.cross_out(attended.view(rows, steps, width)))

        return torch.addcmul(x, mlp_gate, self.mlp(torch.addcmul(mlp_shift, self.norm(x), mlp_scale)))


class FlowTransformer(nn.Module):
    """Velocity of a noisy action chunk under an encoded observation."""

    def __init__(self, action_dim: int, horizon: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(action_dim, width)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, action_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        half = width // 2
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * torch.arange(half) / half), False)

    def context(self, tokens: Tensor, summary: Tensor) -> Context:
        """Projects observation tokens (B, n, d) and a pooled vector (B, d) once for all flow steps."""
        keys_values = []
        for block in self.blocks:
            assert isinstance(block, _Block)  # for the type checker
            keys, values = block.cross_kv(tokens).chunk(2, dim=-1)
            keys_values.append((_split(keys, block.heads), _split(values, block.heads)))
        return Context(keys_values, summary)

    def forward(self, actions: Tensor, tau: Tensor, context: Context, draws: int = 1) -> Tensor:
        """Velocity v(x_tau, tau | observation).

        Args:
            actions: (B * draws, H, A) noisy normalised chunks; the draws of one observation stand together.
            tau: (B * draws,) flow time, 0 noise to 1 action.
            context: Encoded observations, B of them.
            draws: Chunks an observation.

        Returns:
            (B * draws, H, A).
        """
        return self._velocity(actions, self._modulations(tau, context.summary, draws), context, draws, None)

    def schedule(self, taus: Sequence[float], context: Context) -> list[list[Tensor]]:
        """What the flow's time does to each layer, for all times of an integration at once, as `at` takes it."""
        summary = context.summary
        times = torch.tensor(taus, dtype=summary.dtype, device=summary.device)
        layers = self._modulations(times[:, None], summary, 1)
        return [list(layer) for layer in zip(*(layer.unbind(0) for layer in layers), strict=True)]

    def at(self, actions: Tensor, modulations: list[Tensor], context: Context) -> Tensor:
        """Velocity (B, H, A) at one time of a `schedule`."""
        return self._velocity(actions, modulations, context, 1, None)

    def cross_attention(self, actions: Tensor, tau: Tensor, context: Context) -> Tensor:
        """Share of each observation token (B, n) in what the chunk attends to, mean over layers, heads and actions."""
        seen: list[Tensor] = []
        self._velocity(actions, self._modulations(tau, context.summary, 1), context, 1, seen)
        return torch.stack(seen).mean(0)

    def _modulations(self, tau: Tensor, summary: Tensor, draws: int) -> list[Tensor]:
        """Of each layer (..., 9, 1, d), for times (...) that broadcast to those of the summary's rows."""
        angles = tau[..., None] * 1000.0 * self.get_buffer("frequencies")
        condition = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        condition = condition + summary.repeat_interleave(draws, 0)
        modulations = []
        for block in self.blocks:
            assert isinstance(block, _Block)  # for the type checker
            modulations.append(block.modulated(condition))
        return modulations

    def _velocity(
        self, actions: Tensor, modulations: list[Tensor], context: Context, draws: int, seen: list[Tensor] | None
    ) -> Tensor:
        x = self.embed(actions) + self.position
        for block, modulation, keys_values in zip(self.blocks, modulations, context.keys_values, strict=True):
            x = block(x, modulation, keys_values, draws, seen)
        out: Tensor = self.out(self.norm(x))
        return out
