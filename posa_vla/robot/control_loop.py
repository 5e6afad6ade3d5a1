"""One episode of a policy on a robot."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from posa_vla.policy.execution import ChunkExecutor, Execution
from posa_vla.policy.policy import Observation, Policy
from posa_vla.robot.robot import Reading, Robot
from posa_vla.robot.safety import Envelope
from posa_vla.seeds import look_seed


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
    way: Execution,
    max_steps: int,
    cameras: Sequence[str] | None = None,
) -> EpisodeReport:
    """Runs a policy on a connected robot until the episode is over; the robot holds whatever ends it.

    Args:
        robot: Connected.
        policy: Looks again as `way` says, and after every hold; beside the robot's motion where actions are committed.
        seed: Fixes the scene where the driver can arrange one, and the policy's randomness.
        way: How chunks become actions.
        max_steps: Control periods after which the episode is over, whatever the driver says.
        cameras: Roles that the policy needs; all of the embodiment if None.
    """
    envelope = Envelope(robot.embodiment, cameras)
    steps = 0

    def hold(reason: str) -> None:
        nonlocal steps
        envelope.holds[reason] += 1
        robot.hold()
        steps += 1

    with ThreadPoolExecutor(1, "policy") as thinker:
        planner: ChunkExecutor[Reading] = ChunkExecutor(
            policy, way, partial(look_seed, seed), thinker if way.committed else None
        )
        try:
            robot.start_episode(seed)
            reading = robot.observe()
            while not reading.ended and steps < max_steps:
                reason = envelope.unfit(reading, robot.now()) if planner.due else None
                action = None
                if reason is None:
                    observation = Observation(reading.images, reading.state, reading.instruction)
                    planned = planner.next(observation, reading)
                    deadline = envelope.deadline(planned.source, planned.index)
                    action, reason = envelope.admit(planned.action, deadline, robot.now())
                if action is None:
                    hold(reason or "unknown")
                    planner.forget()
                else:
                    robot.apply(action)
                    steps += 1
                reading = robot.observe()
        finally:
            robot.hold()
    return EpisodeReport(reading.success, steps, dict(envelope.holds), envelope.clamped, planner.latencies_ms)
