"""What a robot does with the releases of its channel: update at an episode boundary, then run episodes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posa_vla.errors import PosaError, Refused
from posa_vla.policy.execution import Execution
from posa_vla.robot.agent import Agent, UpdateReport
from posa_vla.robot.control_loop import EpisodeReport, run_episode
from posa_vla.robot.health import RobotPolicy
from posa_vla.robot.robot import Robot


@dataclass
class Session:
    """Everything that a robot did since it was started.

    Attributes:
        update: The last update's report.
        number: Release that ran the last episode.
        episodes: Reports, in order.
    """

    update: UpdateReport | None = None
    number: int | None = None
    digest: str | None = None
    episodes: list[EpisodeReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `posa robot run --json`.

        `successes` is null where the driver cannot know; `latency_ms` is null where no inference was made.
        """
        episodes = self.episodes
        known = [e.success for e in episodes if e.success is not None]
        latencies = [ms for e in episodes for ms in e.latencies_ms]
        return {
            "release": None if self.number is None else {"number": self.number, "bundle_digest": self.digest},
            "update": None if self.update is None else self.update.status,
            "reason": "" if self.update is None else self.update.reason,
            "episodes": len(episodes),
            "successes": sum(known) if known or not episodes else None,
            "mean_steps": statistics.fmean(e.steps for e in episodes) if episodes else None,
            "holds": sum(sum(e.holds.values()) for e in episodes),
            "clamped": sum(e.clamped for e in episodes),
            "latency_ms": {
                name: round(float(np.percentile(latencies, at)), 2) if latencies else None
                for name, at in (("p50", 50), ("p99", 99))
            },
        }


class Runner:
    """An agent and the robot that it looks after."""

    def __init__(self, agent: Agent, robot: Robot, *, way: Execution, max_steps: int, seed: int) -> None:
        """Takes a connected robot.

        Args:
            agent: Keeps the robot's releases.
            robot: Connected.
            way: How chunks become actions.
            max_steps: Control periods of an episode.
            seed: Of the first episode; each further one takes the next.
        """
        self.session = Session()
        self._agent = agent
        self._robot = robot
        self._way = way
        self._max_steps = max_steps
        self._seed = seed
        self._policy: RobotPolicy | None = None

    def update(self) -> UpdateReport:
        """Takes a newer release, if there is one to take."""
        report = self._agent.update()
        self.session.update = report
        if self._policy is not None and self._policy.digest != report.digest:
            self._policy = None
        return report

    def run(self, episodes: int, done: Callable[[EpisodeReport], None]) -> None:
        """Runs episodes with what is installed; `done` is handed each report.

        Raises:
            Refused: Nothing is installed, or it does not verify.
        """
        session = self.session
        if self._policy is None:
            try:
                self._policy = self._agent.policy()
            except Refused as error:
                reason = session.update.reason if session.update is not None else ""
                raise Refused(f"{error} ({reason})" if reason else str(error)) from None
        running = self._agent.slots.running
        assert running is not None  # policy() found it
        session.number, session.digest = running.release, running.bundle_digest
        for _ in range(episodes):
            report = run_episode(
                self._robot,
                self._policy,
                seed=self._seed,
                way=self._way,
                max_steps=self._max_steps,
                cameras=self._policy.config.cameras,
            )
            self._seed += 1
            session.episodes.append(report)
            done(report)


def follow(
    runner: Runner,
    episodes: int,
    interval: float,
    done: Callable[[EpisodeReport], None],
    say: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Updates, then runs episodes, at most every `interval` seconds, until interrupted.

    What is refused is said once; a robot without a policy that may run stands and asks again.

    Args:
        runner: The robot and its agent.
        episodes: After each update.
        interval: Seconds.
        done: Handed each episode's report.
        say: Handed what a person must know.
        wait: Called with the seconds until the next update.
        told: Called after each round.
    """
    said = ""
    while True:
        start = time.monotonic()
        message = runner.update().reason
        try:
            runner.run(episodes, done)
        except PosaError as error:
            message = str(error)
        if message and message != said:
            say(message)
        said = message
        told()
        wait(max(0.0, interval - (time.monotonic() - start)))
