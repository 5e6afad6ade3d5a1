"""One episode of a policy on a robot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from posa_vla.policy.policy import Observation, Policy
from posa_vla.robot.robot import Robot
from posa_vla.robot.safety import Envelope


@dataclass(frozen=True)
class EpisodeReport:
    """What happened in an episode.

    Attributes:
        success: None where the driver cannot know.
        steps: Control periods, held ones among them.
        holds: Reason -> control periods held for it.
        clamped: Actions that were brought back into the limits.
        latencies_ms: Wall time of every inference.
    """

    success: bool | None
    steps: int
    holds: dict[str, int]
    clamped: int
    latencies_ms: list[float]


def run_episode(
    robot: Robot,
    policy: Policy,
    *,
    seed: int,
    execute: int,
    max_steps: int,
    cameras: Sequence[str] | None = None,
) -> EpisodeReport:
    """Runs a policy on a connected robot until the episode is over; the robot holds whatever ends it.

    Args:
        robot: Connected.
        policy: Looks again after each `execute` actions of a chunk, and after every hold.
        seed: Fixes the scene where the driver can arrange one, and the policy's randomness.
        execute: Actions taken of each chunk, at most its horizon.
        max_steps: Control periods after which the episode is over, whatever the driver says.
        cameras: Roles that the policy needs; all of the embodiment if None.
    """
    envelope = Envelope(robot.embodiment, cameras)
    latencies: list[float] = []
    steps = 0

    def hold(reason: str) -> None:
        nonlocal steps
        envelope.holds[reason] += 1
        robot.hold()
        steps += 1

    try:
        robot.start_episode(seed)
        reading = robot.observe()
        while not reading.ended and steps < max_steps:
            reason = envelope.unfit(reading, robot.now())
            if reason is not None:
                hold(reason)
                reading = robot.observe()
                continue
            start = time.perf_counter()
            observation = Observation(reading.images, reading.state, reading.instruction)
            chunk = policy.act([observation], seed=(seed + steps) % 2**63).actions[0]
            latencies.append(1000 * (time.perf_counter() - start))
            seen = reading
            for index, wanted in enumerate(chunk[:execute]):
                action, reason = envelope.admit(wanted, envelope.deadline(seen, index), robot.now())
                if action is None:
                    hold(reason or "unknown")
                else:
                    robot.apply(action)
                    steps += 1
                reading = robot.observe()
                if action is None or reading.ended or steps >= max_steps:
                    break
    finally:
        robot.hold()
    return EpisodeReport(reading.success, steps, dict(envelope.holds), envelope.clamped, latencies)
