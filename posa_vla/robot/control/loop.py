"""One episode of a policy on a robot."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from posa_vla.policy.execution import ChunkExecutor, Execution
from posa_vla.policy.policy import Observation, Policy
from posa_vla.robot.control.pictures import require_judged_size, sizes_of
from posa_vla.robot.control.robot import Reading, Robot
from posa_vla.robot.control.safety import Envelope
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
        upscaled: Camera role -> (height, width) of pictures that were smaller than the release was judged on, where
            that was allowed; the policy blew them up.
    """

    success: bool | None
    steps: int
    holds: dict[str, int]
    clamped: int
    latencies_ms: list[float]
    upscaled: dict[str, tuple[int, int]] = field(default_factory=dict)


def run_episode(
    robot: Robot,
    policy: Policy,
    *,
    seed: int,
    way: Execution,
    cameras: Sequence[str] | None = None,
    speed_limit: float = 1.0,
    judged_size: int | None = None,
    allow_upscale: bool = False,
) -> EpisodeReport:
    """Runs a policy on a connected robot until the episode is over; then, and after any error, the robot holds.

    Args:
        robot: Connected.
        policy: Looks again as `way` says, and after every hold; beside the robot's motion where actions are committed.
        seed: Fixes the scene where the driver can arrange one, and the policy's randomness.
        way: How chunks become actions, and the control periods after which the episode is over, whatever the driver
            says.
        cameras: Roles that the policy needs; all of the embodiment if None.
        speed_limit: Share of the embodiment's limits; see `speed_limited`.
        judged_size: Pixels along each side of the pictures that the policy was judged on; None where nobody says.
        allow_upscale: Whether cameras may show less than that.

    Raises:
        Refused: A camera shows less than the policy was judged on; nothing was applied since it did.
    """
    cameras = tuple(robot.embodiment.cameras if cameras is None else cameras)
    upscaled: dict[str, tuple[int, int]] = {}
    envelope = Envelope(robot.embodiment, cameras, speed_limit)
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
            while not reading.ended and steps < way.max_steps:
                reason = envelope.unfit(reading, robot.now()) if planner.due else None
                action = None
                if reason is None:
                    if planner.due:
                        sizes = sizes_of(reading.images)
                        upscaled |= require_judged_size(sizes, judged_size, cameras, allow_upscale=allow_upscale)
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
    return EpisodeReport(reading.success, steps, dict(envelope.holds), envelope.clamped, planner.latencies_ms, upscaled)
