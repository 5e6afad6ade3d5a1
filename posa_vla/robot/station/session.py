"""What a robot does with the releases of its channel: update at an episode boundary, then run episodes."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.release.record import ReleaseRecord
from posa_vla.robot.agent.agent import Agent, UpdateReport
from posa_vla.robot.agent.health import RobotPolicy
from posa_vla.robot.agent.terms import RunSettings, Terms, terms_of
from posa_vla.robot.control.loop import EpisodeReport, run_episode
from posa_vla.robot.control.pictures import Sizes, camera_sizes, require_judged_size
from posa_vla.robot.control.robot import Robot


@dataclass
class Session:
    """Everything that a robot did since it was started.

    Attributes:
        update: The last update's report.
        number: Release that the robot runs; None where it runs none, or must not run what is installed.
        digest: Digest of that release's bundle.
        terms: What the release is run with.
        standing: Why the robot stands, in words; empty where it runs a release.
        episodes: Reports, in order.
    """

    update: UpdateReport | None = None
    number: int | None = None
    digest: str | None = None
    terms: Terms | None = None
    standing: str = ""
    episodes: list[EpisodeReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `posa robot run --json`.

        `release` and `terms` are null where nothing is run, and `reason` says why; `successes` is null where the driver
        cannot know; `latency_ms` is null where no inference was made; `upscaled` names the cameras that showed less
        than the release was judged on, and the last (height, width) of each.
        """
        episodes = self.episodes
        known = [e.success for e in episodes if e.success is not None]
        latencies = [ms for e in episodes for ms in e.latencies_ms]
        return {
            "release": None if self.number is None else {"number": self.number, "bundle_digest": self.digest},
            "terms": None if self.terms is None else self.terms.model_dump(mode="json"),
            "update": None if self.update is None else self.update.status,
            "reason": self._reason(),
            "episodes": len(episodes),
            "successes": sum(known) if known or not episodes else None,
            "mean_steps": statistics.fmean(e.steps for e in episodes) if episodes else None,
            "holds": sum(sum(e.holds.values()) for e in episodes),
            "clamped": sum(e.clamped for e in episodes),
            "upscaled": {role: list(size) for e in episodes for role, size in e.upscaled.items()},
            "latency_ms": {
                name: round(float(np.percentile(latencies, at)), 2) if latencies else None
                for name, at in (("p50", 50), ("p99", 99))
            },
        }

    def _reason(self) -> str:
        update = "" if self.update is None else self.update.reason
        # Where nothing is installed, the update's reason is part of the other one.
        return self.standing if update in self.standing else "; ".join(filter(None, (update, self.standing)))


@dataclass(frozen=True)
class _Ready:
    """A release that may run, on the robot that is connected for it."""

    record_digest: str | None
    policy: RobotPolicy
    terms: Terms
    robot: Robot


class Runner:
    """An agent and the robot that it looks after."""

    def __init__(
        self,
        agent: Agent,
        open_robot: Callable[[Terms], Robot],
        settings: RunSettings,
        *,
        seed: int,
        say: Callable[[str], None],
        said_in: Mapping[str, Path] | None = None,
    ) -> None:
        """Takes a robot that is not connected yet.

        Args:
            agent: Keeps the robot's releases.
            open_robot: Constructs the driver for what a release is run with.
            settings: The robot's own.
            seed: Of the first episode; each further one takes the next.
            say: Told what the robot's settings lower of what a release was judged with.
            said_in: Setting -> file that says it; the others were said by flags.
        """
        self.session = Session()
        self._agent = agent
        self._open_robot = open_robot
        self._settings = settings
        self._seed = seed
        self._say = say
        self._said_in = said_in
        self._robot: Robot | None = None
        self._opened_with: tuple[int, int] | None = None
        self._ready: _Ready | None = None

    def update(self) -> UpdateReport:
        """Takes a newer release, if there is one to take."""
        report = self._agent.update(self._pictures)
        self.session.update = report
        if self._ready is not None and self._ready.record_digest != report.record_digest:
            self._ready = None
        return report

    def run(self, episodes: int, done: Callable[[EpisodeReport], None]) -> None:
        """Runs episodes with what is installed; `done` is handed each report.

        Raises:
            Refused: Nothing is installed, or it does not verify.
            BadInput: The robot's settings contradict what the release was judged with, or the robot is not there.
        """
        try:
            self._run(episodes, done)
        except PosaError as error:
            self.session.standing = str(error)
            raise

    def _run(self, episodes: int, done: Callable[[EpisodeReport], None]) -> None:
        session = self.session
        try:
            ready = self._prepared()
        except PosaError:
            session.number = session.digest = session.terms = None
            raise
        session.standing = ""
        for _ in range(episodes):
            report = run_episode(
                ready.robot,
                ready.policy,
                seed=self._seed,
                way=ready.terms.execution,
                cameras=ready.policy.config.cameras,
                speed_limit=ready.terms.speed_limit,
                judged_size=ready.terms.image_size if ready.terms.fixed else None,
                allow_upscale=self._settings.allow_upscale,
            )
            self._seed += 1
            session.episodes.append(report)
            done(report)

    def _prepared(self) -> _Ready:
        session = self.session
        if self._ready is None:
            try:
                record, policy = self._agent.installed()
            except Refused as error:
                reason = session.update.reason if session.update is not None else ""
                raise Refused(f"{error} ({reason})" if reason else str(error)) from None
            terms = terms_of(record, self._settings, self._said_in, policy.made_for)
            robot = self._connected(terms)
            running = self._agent.slots.running
            assert running is not None  # installed() found it
            self._ready = _Ready(running.record_digest, policy, terms, robot)
            session.number, session.digest = running.release, running.bundle_digest
            if terms.lowered and terms != session.terms:
                self._say(f"release {record.release} runs lowered by this robot: {'; '.join(terms.lowered)}")
            session.terms = terms
        return self._ready

    def _pictures(self, record: ReleaseRecord) -> Sizes:
        """What the robot's cameras show a release, by role.

        Raises:
            Refused: One shows less than the release was judged on.
            BadInput: The robot is not there.
        """
        try:
            terms = terms_of(record, self._settings)
        except BadInput:  # said when the release is to be run; what a camera shows is no part of the contradiction
            terms = terms_of(record, RunSettings(image_size=self._settings.image_size))
        robot = self._connected(terms)
        sizes, roles = camera_sizes(robot), robot.embodiment.cameras
        require_judged_size(sizes, record.image_size, roles, allow_upscale=self._settings.allow_upscale)
        return sizes

    def _connected(self, terms: Terms) -> Robot:
        """The robot, connected anew where a driver has to be opened with something else."""
        needed = (terms.image_size, terms.execution.max_steps)
        if self._robot is None or self._opened_with != needed:
            self.close()
            robot = self._open_robot(terms)
            try:
                robot.connect()
            except BaseException:
                # A driver that got half-way lets go of its transport, so that the next try can have it.
                with contextlib.suppress(Exception):
                    robot.disconnect()
                raise
            self._robot, self._opened_with = robot, needed
        return self._robot

    def close(self) -> None:
        """Leaves the robot standing, and disconnects it."""
        robot, self._robot, self._ready = self._robot, None, None
        if robot is not None:
            robot.disconnect()


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

    The same refusal is said once. A robot that has no policy which may run stands, and asks the channel again.

    Args:
        runner: The robot and its agent.
        episodes: Number of episodes after each update.
        interval: Seconds from the start of one update to the start of the next, or more.
        done: Handed each episode's report.
        say: Handed what a person must know.
        wait: Called with the seconds until the next update.
        told: Called after each update and its episodes.
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
