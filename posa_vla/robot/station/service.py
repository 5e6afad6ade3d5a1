"""A robot from its settings to its episodes: opened once, then updated and run once, or until it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.objects.open import open_objects
from posa_vla.release.channel import ChannelClient
from posa_vla.release.trust import Trust
from posa_vla.robot.agent.agent import Agent, UpdateReport
from posa_vla.robot.agent.provision import trust_of, tuf_state
from posa_vla.robot.agent.terms import Terms, said
from posa_vla.robot.control.loop import EpisodeReport
from posa_vla.robot.control.robot import DriverOptions, Robot, RobotOptions, driver_options, open_driver
from posa_vla.robot.control.safety import speed_limited
from posa_vla.robot.settings import Given, RobotSettings
from posa_vla.robot.station.local_socket import Station
from posa_vla.robot.station.report import Reporter, report_path
from posa_vla.robot.station.session import Runner, follow


def open_robot(given: Given, image_size: int = 64, max_steps: int = 60) -> Robot:
    """The robot that the settings describe, not connected.

    Args:
        given: The settings.
        image_size: Side of the pictures of a driver that can choose (pixels).
        max_steps: Control steps after which an episode is over.

    Raises:
        BadInput: The driver, an option of it or the embodiment is unknown, or a speed limit cannot be applied to it.
    """
    settings, own = given.settings, _own_options(given)
    objects = getattr(own, "objects", 3)
    robot = open_driver(
        settings.driver, RobotOptions(settings.embodiment, own.task, image_size, objects, max_steps, own)
    )
    speed_limited(robot.embodiment, settings.speed_limit)
    return robot


def _own_options(given: Given) -> DriverOptions:
    settings, file = given.settings, given.said_in.get("options")
    where = f"options of {settings.driver}" if file is None else f"{file}: options"
    return driver_options(settings.driver, settings.options, where)


def require_sound(given: Given) -> Robot:
    """Checks settings as far as that is possible before the robot is provisioned.

    Returns:
        The robot that they describe, not connected.

    Raises:
        BadInput: The robot's name is not one that reports can have; or see `open_robot`.
    """
    report_path(given.settings.name)
    return open_robot(given, given.settings.image_size or 64)


def spelled_out(given: Given) -> RobotSettings:
    """The same settings, checked, with every option that the driver declares.

    Raises:
        BadInput: See `require_sound`.
    """
    require_sound(given)
    return given.settings.model_copy(update={"options": _own_options(given).model_dump(mode="json")})


def require_same_robot(given: Given, trust: Trust) -> None:
    """Stops where the settings describe another robot than the one that the trust is for.

    Raises:
        BadInput: Target or embodiment differ.
    """
    settings, origin = given.settings, given.said_in
    if trust.target != settings.target:
        raise BadInput(
            f"{settings.home} was provisioned for target {trust.target!r}, got "
            f"{said('target', repr(settings.target), origin)}"
        )
    embodiment = require_sound(given).embodiment
    if embodiment.digest != trust.embodiment_digest:
        raise BadInput(
            f"{settings.home} was provisioned for embodiment {trust.embodiment_id!r}, digest "
            f"{trust.embodiment_digest[:12]}; {said('embodiment', repr(settings.embodiment), origin)} has digest "
            f"{embodiment.digest[:12]}: provision it again if the robot was changed"
        )


class Service:
    """A provisioned robot that takes releases and runs them; see `open_service`."""

    def __init__(self, given: Given, runner: Runner, say: Callable[[str], None]) -> None:
        settings = given.settings
        place = None if settings.reports is None else open_objects(settings.reports)
        self.session = runner.session
        self._settings, self._runner, self._say = settings, runner, say
        self._reporter = Reporter(runner.session, settings.name, settings.target, place, say)

    def once(self, advance: Callable[[EpisodeReport], None]) -> UpdateReport:
        """One update, then one set of episodes; `advance` is handed each report.

        Raises:
            Refused: Nothing that may run is installed.
            BadInput: The settings contradict the release, or the robot is not there.
        """
        update = self._runner.update()
        if update.reason:
            self._say(f"update {update.status}: {update.reason}")
        try:
            self._runner.run(self._settings.episodes, advance)
        finally:
            self._reporter.leave()
        return update

    def follow(self) -> None:
        """Updates and runs episodes, and answers on its socket if it has one, until it is interrupted.

        Raises:
            BadInput: The socket cannot be made.
        """
        if self._settings.socket is None:
            self._loop(time.sleep)
            return
        station = Station(Path(self._settings.socket), episode_words, self._state)
        with station.open():
            self._loop(lambda seconds: station.serve(seconds, self._asked))

    def _loop(self, wait: Callable[[float], None]) -> None:
        settings, say = self._settings, self._say
        follow(
            self._runner,
            settings.episodes,
            settings.interval,
            lambda episode: say(episode_words(episode)),
            say,
            wait,
            self._reporter.leave,
        )

    def _state(self) -> dict[str, Any]:
        return self._reporter.report().model_dump(mode="json")

    def _asked(self, count: int, done: Callable[[EpisodeReport], None]) -> dict[str, Any]:
        first = len(self.session.episodes)
        self._runner.run(count, done)
        self._reporter.leave()
        rows = [
            {"success": e.success, "steps": e.steps, "holds": sum(e.holds.values()), "clamped": e.clamped}
            | {"upscaled": {role: list(size) for role, size in e.upscaled.items()}}
            for e in self.session.episodes[first:]
        ]
        return {**self._state(), "rows": rows}


@contextmanager
def open_service(given: Given, *, seed: int, retry: bool, say: Callable[[str], None]) -> Iterator[Service]:
    """A robot's agent and its driver; the robot is left standing, and its home free, when the block ends.

    Args:
        given: The robot's settings.
        seed: Of the first episode; each further one takes the next.
        retry: Whether a release is tried again that was given up as unhealthy.
        say: Handed what a person must know.

    Raises:
        BadInput: The robot was not provisioned, or for another target or embodiment; or a setting does not fit.
        Busy: Another agent holds the robot's home.
    """
    settings, home = given.settings, Path(given.settings.home)
    root, trust = trust_of(home)
    require_same_robot(given, trust)

    def opened(terms: Terms) -> Robot:
        return open_robot(given, terms.image_size, terms.execution.max_steps)

    agent = Agent(home, ChannelClient(settings.channel, tuf_state(home), root), trust)
    with agent.slots.lock():
        if retry:
            agent.slots.forget_attempts()
        runner = Runner(agent, opened, settings, seed=seed, say=say, said_in=given.said_in)
        try:
            yield Service(given, runner, say)
        finally:
            runner.close()


def episode_words(report: EpisodeReport) -> str:
    """An episode in one line."""
    outcome = {True: "success", False: "no success", None: "done"}[report.success]
    held = ", ".join(f"held {count} for {reason}" for reason, count in sorted(report.holds.items()))
    small = [f"{role} blown up from {width} x {height}" for role, (height, width) in sorted(report.upscaled.items())]
    return ", ".join([f"{outcome} after {report.steps} steps", *([held] if held else []), *small])
