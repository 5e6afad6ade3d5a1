"""One demonstration: the expert's clean labels along a path that noise has pushed off course."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.episode import CameraTrack, Episode
from posa_vla.policy.policy import Observation, Policy
from posa_vla.seeds import look_seed
from posa_vla.sim.environment import TaskEnvironment
from posa_vla.sim.expert import make_expert

# Chance that a burst of noise starts at a step outside one, and the shortest and longest burst (steps).
_BURST_CHANCE, _BURST_STEPS = 0.15, (2, 5)


class BurstNoise:
    """Noise on the three deltas that comes in bursts, so that it carries the arm somewhere (DART, Laskey et al. 2017).

    Within a burst each step's noise is standard normal, half of its variance shared by all steps of the burst.
    """

    def __init__(self, scale: NDArray[np.float32], seed: int) -> None:
        """Takes the standard deviation `scale` (3,) in metres and the scene's seed."""
        self._scale = scale
        # The first number keeps this stream apart from the one that the scene is drawn from.
        self._rng = np.random.default_rng([1, seed])
        self._left = 0
        self._shared = np.zeros(3)

    def draw(self) -> NDArray[np.float32]:
        """The next step's noise, float32 (3,) m; zero between bursts."""
        if self._left == 0:
            if self._rng.random() >= _BURST_CHANCE:
                return np.zeros(3, np.float32)
            self._left = int(self._rng.integers(_BURST_STEPS[0], _BURST_STEPS[1] + 1))
            self._shared = self._rng.standard_normal(3)
        self._left -= 1
        mixed = np.sqrt(0.5) * (self._shared + self._rng.standard_normal(3))
        noise: NDArray[np.float32] = (self._scale * mixed).astype(np.float32)
        return noise


def demonstrate(environment: TaskEnvironment, seed: int, noise: float) -> Episode | None:
    """Runs the expert on the scene of a seed.

    Args:
        environment: The task's environment.
        seed: Scene seed; it fixes the noise too.
        noise: Standard deviation of the noise in a burst, as a fraction of the largest delta.

    Returns:
        The episode, `action` holding the expert's clean labels; None where the expert did not succeed in time.
    """
    expert = make_expert(environment)
    low, high = environment.embodiment.action_limits()
    control = environment.simulation.control
    disturb = BurstNoise(noise * control.reach.astype(np.float32), seed)
    expert.reset()
    observation, info = environment.reset(seed=seed)
    frames: list[tuple[dict[str, Any], dict[str, Any], NDArray[np.float32]]] = []
    while True:
        label = expert.act()
        frames.append((observation, info, label))
        executed = control.pushed(label, disturb.draw())
        observation, _, success, truncated, info = environment.step(np.clip(executed, low, high))
        if success:
            return _episode(environment, frames)
        if truncated:
            return None


def relabelled(environment: TaskEnvironment, seed: int, policy: Policy, beta: float, execute: int) -> Episode:
    """A policy's rollout on the scene of a seed, each step labelled with what the expert would have done there.

    That is one round of DAgger (Ross et al. 2011): the states are the policy's, its mistakes among them, the labels
    are the expert's, who answers to the present state alone.

    Args:
        environment: The task's environment.
        seed: Scene seed; it fixes the policy's randomness and whose steps are executed.
        policy: Looks again after every `execute` steps.
        beta: Chance that a step is the expert's.
        execute: Actions executed of each chunk.

    Returns:
        The episode, to success or to the step limit; `success` says which, `scene["collected"]` how it came about.
    """
    expert, draw = make_expert(environment), np.random.default_rng([3, seed])
    low, high = environment.embodiment.action_limits()
    expert.reset()
    observation, info = environment.reset(seed=seed)
    frames: list[tuple[dict[str, Any], dict[str, Any], NDArray[np.float32]]] = []
    chunk: list[NDArray[np.float32]] = []
    success = truncated = False
    while not success and not truncated:
        if not chunk:
            seen = Observation(observation["images"], observation["state"], str(info["instruction"]))
            answer = policy.act([seen], seed=look_seed(seed, len(frames)))
            chunk = list(answer.actions[0][:execute])
        own = chunk.pop(0)
        label = expert.act()
        frames.append((observation, info, label))
        executed = label if draw.random() < beta or not np.isfinite(own).all() else own
        observation, _, success, truncated, info = environment.step(np.clip(executed, low, high))
    how = {"how": "dagger", "policy": policy.digest, "beta": beta}
    return _episode(environment, frames, success=success, collected=how)


def _episode(
    environment: TaskEnvironment,
    frames: list[tuple[dict[str, Any], dict[str, Any], NDArray[np.float32]]],
    *,
    success: bool = True,
    collected: dict[str, Any] | None = None,
) -> Episode:
    cameras = {
        role: CameraTrack(
            images=np.stack([observation["images"][role] for observation, _, _ in frames]),
            intrinsics=np.stack([info["cameras"][role]["intrinsics"] for _, info, _ in frames]),
            pose=np.stack([info["cameras"][role]["pose"] for _, info, _ in frames]),
        )
        for role in environment.embodiment.cameras
    }
    return Episode(
        embodiment=environment.embodiment.id,
        instruction=environment.scene.instruction,
        source="sim",
        success=success,
        fps=environment.embodiment.control_hz,
        cameras=cameras,
        state=np.stack([observation["state"] for observation, _, _ in frames]),
        action=np.stack([label for _, _, label in frames]),
        end_effector=np.stack([info["end_effector"] for _, info, _ in frames]),
        gripper=np.array([info["gripper"] for _, info, _ in frames], dtype=np.float32),
        scene={**frames[0][1]["scene"], **({"collected": collected} if collected else {})},
    )
