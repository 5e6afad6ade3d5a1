"""Whether an installed policy may run: it loads, answers in time, and its answers fit the robot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.model.config import ModelConfig
from posa_vla.policy.execution import Execution
from posa_vla.policy.policy import Observation, Policy
from posa_vla.robot.control.pictures import Sizes
from posa_vla.robot.control.robot import synthetic_reading
from posa_vla.robot.control.safety import PATIENCE

_TRIALS = 5
# Times that a policy which is too slow is tried: something else may keep the processor busy for a moment.
_ROUNDS = 3


class RobotPolicy(Policy, Protocol):
    """A policy that knows what it was made for."""

    @property
    def embodiment(self) -> Embodiment:
        """The robot that it drives."""
        ...

    @property
    def config(self) -> ModelConfig:
        """Its interface: cameras, image size."""
        ...

    @property
    def made_for(self) -> Execution | None:
        """The execution that its bundle names; None where it names none."""
        ...


# A verified bundle's folder and digest to a policy.
Load = Callable[[Path, str], RobotPolicy]


def load_installed(folder: Path, digest: str) -> RobotPolicy:
    """Loads PosA-VLA from a verified bundle."""
    from posa_vla.model.posa_policy import load_policy

    return load_policy(folder, digest)


def unhealthy(policy: RobotPolicy, digest: str, embodiment_digest: str, sizes: Sizes) -> str | None:
    """Why a loaded policy may not run, or None.

    It must be the bundle's, be made for the robot, and give finite actions within the limits on synthetic
    observations, the middle one of its answers within the time after which the safety envelope would hold. A policy
    that is too slow is tried a few times, and the fastest round counts. The pictures have the sizes of the robot's, and
    the policy's own where those are not known.
    """
    embodiment, config = policy.embodiment, policy.config
    if policy.digest != digest:
        return f"policy {policy.digest[:12]} was loaded, expected bundle {digest[:12]}"
    if embodiment.digest != embodiment_digest:
        return f"it was made for embodiment {embodiment.id} ({embodiment.digest[:12]}), not for this robot"
    low, high = embodiment.action_limits()
    reading, own = synthetic_reading(embodiment, 1, "pick up the red cube"), (config.image_size, config.image_size)
    noise = np.random.default_rng(0)
    limit = PATIENCE / embodiment.control_hz
    seconds: list[float] = []
    middles: list[float] = []
    for trial in range(_ROUNDS * _TRIALS):
        images = {r: noise.integers(0, 256, (*sizes.get(r, own), 3), np.uint8) for r in embodiment.cameras}
        start = time.perf_counter()
        actions = policy.act([Observation(images, reading.state, reading.instruction)], seed=trial).actions
        seconds.append(time.perf_counter() - start)
        if actions.shape != (1, policy.horizon, len(low)):
            return f"its actions have shape {actions.shape}, expected (1, {policy.horizon}, {len(low)})"
        if not np.isfinite(actions).all():
            return "it gave actions that are not finite"
        if (actions < low).any() or (actions > high).any():
            return "it gave actions outside the embodiment's limits"
        if len(seconds) == _TRIALS:
            middles.append(statistics.median(seconds))
            if middles[-1] <= limit:
                return None
            seconds.clear()
    return (
        f"it takes {1000 * min(middles):.0f} ms an answer, expected at most {1000 * limit:.0f} ms: either the robot's "
        "computer is too slow for it, or another program keeps the processor busy"
    )


def tried(
    load: Load, folder: Path, digest: str, embodiment_digest: str, sizes: Sizes, execution: Execution | None
) -> str | None:
    """Loads a policy as its release runs it, and tries it; a load that breaks is a complaint too.

    Args:
        load: See `Load`.
        folder: Verified bundle.
        digest: Its digest.
        embodiment_digest: Of the robot.
        sizes: Of the robot's pictures; see `unhealthy`.
        execution: What the release fixes; None where it fixes nothing.

    Returns:
        Why the policy may not run, or None.
    """
    try:
        policy = load(folder, digest)
        if execution is not None:
            policy = policy.with_flow(execution.flow_steps, execution.start_noise)
        return unhealthy(policy, digest, embodiment_digest, sizes)
    except BadInput as error:
        return str(error)
    # Whatever the policy's code does wrong, the robot goes back to the one that works.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
