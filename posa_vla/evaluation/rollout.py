"""Rollouts in simulation: unseen scenes, one row an episode, and evidence of them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posa_vla.errors import BadInput
from posa_vla.evidence.record import EpisodeRow
from posa_vla.params import EvaluateParams, Params
from posa_vla.policy.execution import ChunkExecutor, execution_of
from posa_vla.policy.policy import ActionChunk, Observation, Policy
from posa_vla.seeds import look_seed


class Environment(Protocol):
    """What a rollout needs of a Gymnasium environment (see sim/environment.py)."""

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the scene of a seed; returns observation and info."""
        ...

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Applies one action; returns observation, reward, terminated, truncated, info."""
        ...


@dataclass
class Rollout:
    """One episode of a policy.

    Attributes:
        row: The outcome.
        instruction: What the policy was asked to do.
        images: Role -> the frame of every step, uint8 (H, W, 3); empty unless recorded.
        attention: Role -> the anchor attention (K, h, w) that the step was taken under; empty unless recorded.
        cross_attention: Role -> the action head's share of attention (k, l) on each image cell; likewise.
        prompts: What it was asked at every step, or None where that is the instruction all along.
    """

    row: EpisodeRow
    instruction: str
    images: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    cross_attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    prompts: tuple[str, ...] | None = None


def _record(rollout: Rollout, images: Mapping[str, NDArray[np.uint8]], chunk: ActionChunk | None) -> None:
    for role, image in images.items():
        rollout.images.setdefault(role, []).append(image)
    for kept, maps in (
        (rollout.attention, chunk and chunk.attention),
        (rollout.cross_attention, chunk and chunk.cross_attention),
    ):
        for role, values in (maps or {}).items():
            kept.setdefault(role, []).append(values[0])


def path_length(positions: NDArray[Any]) -> float:
    """Metres along positions (T, 3)."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def mean_jerk(positions: NDArray[Any]) -> float | None:
    """Root mean square jerk along positions (T, 3), m per cubed control period; None of fewer than four."""
    if len(positions) < 4:
        return None
    return float(np.sqrt((np.diff(positions, n=3, axis=0) ** 2).sum(1).mean()))


def run_episode(
    policy: Policy, environment: Environment, seed: int, params: EvaluateParams, record: bool = False
) -> Rollout:
    """Runs one scene to success, to the step limit, or to an action that is not a number.

    Args:
        policy: Run as `params` say; its randomness is seeded by scene and chunk.
        environment: Terminates on success, truncates at the step limit.
        seed: Seed of the scene.
        params: How the policy is executed.
        record: Whether to keep images and attention of every step.
    """
    observation, info = environment.reset(seed=seed)
    rollout = Rollout(EpisodeRow(scene_seed=seed, success=False, steps=0, path_length=0), str(info["instruction"]))
    way = execution_of(params, policy.flow_steps)
    planner: ChunkExecutor[None] = ChunkExecutor(policy, way, partial(look_seed, seed), attention=record)
    path, steps, over = [np.asarray(info["end_effector"][:3])], 0, False
    code = "ok"
    while not over:
        seen = Observation(observation["images"], observation["state"], rollout.instruction)
        action = planner.next(seen, None).action
        if not np.isfinite(action).all():
            code = "nan-action"
            break
        if record:
            _record(rollout, observation["images"], planner.chunk)
        observation, _, terminated, truncated, info = environment.step(action)
        steps += 1
        path.append(np.asarray(info["end_effector"][:3]))
        over = terminated or truncated
    success = bool(info["success"]) and code == "ok"
    rollout.row = EpisodeRow(
        scene_seed=seed,
        success=success,
        steps=steps,
        path_length=path_length(np.stack(path)),
        jerk=mean_jerk(np.stack(path)),
        return_code=code,
    )
    return rollout


def require_rendered(params: Params, seen: int, what: str) -> None:
    """Stops where the simulator renders fewer pixels than a policy takes: enlarged pictures show nothing more.

    Args:
        params: `collect.image_size` is what the simulator shows, in demonstrations as in rollouts.
        seen: Pixels along each side of what the policy takes.
        what: Place of that number, for the message.

    Raises:
        BadInput: The simulator renders fewer pixels.
    """
    shown = params.collect.image_size
    if seen > shown:
        raise BadInput(
            f"{what} is {seen} and collect.image_size {shown}: the simulator's pictures would be blown up. "
            f"Set collect.image_size={seen} or more, or train with prepare.image_size={shown} or less"
        )


def require_trainable(params: Params) -> None:
    """Stops where demonstrations of the simulator would be blown up for training.

    Raises:
        BadInput: See `require_rendered`.
    """
    require_rendered(params, params.prepare.image_size, "prepare.image_size")
