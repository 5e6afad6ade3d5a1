"""What a robot does where its driver is away or its release may not run, and what its report says then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from releases import EXECUTION, Channel
from robot.agent.test_terms import Bench
from robot.fakes import FakeRobot

from posa_vla.errors import BadInput
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.robot.agent.terms import Terms
from posa_vla.robot.control.robot import Robot
from posa_vla.robot.station.report import Reporter


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


class _Plugged(FakeRobot):
    """A robot that can be unplugged; it moves only if it was connected."""

    def __init__(self, bench: _AwayBench, **options: Any) -> None:
        super().__init__(**options)
        self._bench, self._connected = bench, False

    def connect(self) -> None:
        if self._bench.away:
            raise BadInput("the robot is unplugged")
        self._connected = True

    def disconnect(self) -> None:
        self._bench.disconnected += 1

    def start_episode(self, seed: int) -> None:
        assert self._connected, "an episode on a robot that was never connected"


class _AwayBench(Bench):
    away = True
    disconnected = 0

    def _open(self, terms: Terms) -> Robot:
        return _Plugged(self, size=terms.image_size)


@pytest.mark.parametrize("installed", [False, True])
def test_a_robot_that_was_away_is_connected_once_it_is_there(channel: Channel, installed: bool) -> None:
    channel.publish(1, schema_version=2)
    if installed:
        Bench(channel).runner.update()
    bench = _AwayBench(channel)
    for _ in range(2):
        report = bench.runner.update()
        assert report.status == ("unchanged" if installed else "refused")
        with pytest.raises(BadInput if installed else Exception, match="the robot is unplugged"):
            bench.run()
    assert bench.disconnected == 2, "whatever a failed connection holds is let go of, so that the next try can have it"
    bench.away = False
    assert bench.runner.update().status == ("unchanged" if installed else "installed")
    bench.run()
    assert len(bench.runner.session.episodes) == 1


def test_the_report_of_a_robot_that_stands_says_why_and_names_no_release(channel: Channel) -> None:
    channel.publish(1, schema_version=2)
    bench = Bench(channel, execute=2)
    reporter = Reporter(bench.runner.session, "bench", "pick", DirectoryObjects(channel.folder), bench.said.append)
    bench.runner.update()
    bench.run()
    assert (reporter.report().release.number, reporter.report().reason) == (1, "")
    channel.publish(2, schema_version=2, execution=EXECUTION.model_copy(update={"execute": 3}))
    bench.runner.update()
    with pytest.raises(BadInput):
        bench.run()
    report = reporter.report()
    assert (report.update, report.release) == ("installed", None)
    assert "--execute 2: release 2 was judged with 3" in report.reason
    channel.publish(3, schema_version=2)
    bench.runner.update()
    bench.run()
    assert (reporter.report().release.number, reporter.report().reason) == (3, "")
