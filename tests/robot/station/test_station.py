"""A robot's station: asked by its socket, it answers at once how it stands, and runs episodes one asker at a time."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.robot.control.loop import EpisodeReport
from posa_vla.robot.station.client import ask
from posa_vla.robot.station.local_socket import Station
from posa_vla.robot.station.report import Reporter, report_path
from posa_vla.robot.station.session import Session


def episode() -> EpisodeReport:
    return EpisodeReport(success=True, steps=7, holds={}, clamped=0, latencies_ms=[1.0])


def run(episodes: int, done: Callable[[EpisodeReport], None]) -> dict[str, Any]:
    if episodes == 13:
        raise Refused("nothing is installed")
    for _ in range(episodes):
        done(episode())
    return {"ran": episodes}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A station whose one thread carries out what it is asked."""
    place = tmp_path / "control.sock"
    station = Station(place, lambda report: f"{report.steps} steps", lambda: {"state": "standing"})
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            station.serve(0.05, run)

    thread = threading.Thread(target=loop)
    with station.open():
        thread.start()
        yield place
        stop.set()
        thread.join()
    assert not place.exists()


def test_status_and_episodes(path: Path) -> None:
    said: list[str] = []
    assert ask(path, {"command": "status"}, timeout=5) == {"state": "standing"}
    assert ask(path, {"command": "episodes", "episodes": 3}, timeout=5, said=said.append) == {"ran": 3}
    assert said == ["7 steps"] * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"command": "move"}, "command"),
        ({"command": "episodes", "episodes": 0}, "greater than or equal to 1"),
        ({"command": "episodes", "episode": 2}, "did you mean 'episodes'"),
    ],
)
def test_what_it_does_not_know_is_refused(path: Path, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ask(path, request_, timeout=5)
    assert ask(path, {"command": "status"}, timeout=5)


def test_a_failure_is_told_and_the_station_goes_on(path: Path) -> None:
    with pytest.raises(PosaError, match="nothing is installed"):
        ask(path, {"command": "episodes", "episodes": 13}, timeout=5)
    assert ask(path, {"command": "episodes", "episodes": 1}, timeout=5) == {"ran": 1}


def test_an_asker_that_goes_away_does_no_harm(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps({"command": "episodes", "episodes": 900}).encode() + b"\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        connection.sendall(b"\x00" * 5000)
    assert ask(path, {"command": "episodes", "episodes": 1}, timeout=5) == {"ran": 1}


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(PosaError, match=r"does not answer.*`posa robot run` up.*`socket` in robot.yaml, or --socket"):
        ask(tmp_path / "none.sock", {"command": "status"}, timeout=1)


def test_a_report_is_left_and_a_store_that_is_away_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    Reporter(Session(), "sim-1", "sim-pick", DirectoryObjects(tmp_path), said.append).leave()
    document = json.loads((tmp_path / report_path("sim-1")).read_bytes())
    assert (document["robot"], document["target"], document["release"]) == ("sim-1", "sim-pick", None)

    class Away(DirectoryObjects):
        def put(self, path: str, data: bytes) -> None:
            raise PosaError("the store is away")

    reporter = Reporter(Session(), "sim-1", "sim-pick", Away(tmp_path), said.append)
    reporter.leave()
    reporter.leave()
    assert len(said) == 1
    assert "the store is away" in said[0]
    with pytest.raises(BadInput, match="robot name"):
        report_path("../other")


def test_a_place_for_reports_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the folder should be")
    said: list[str] = []
    Reporter(Session(), "sim-1", "sim-pick", DirectoryObjects(tmp_path), said.append).leave()
    assert len(said) == 1
    assert "the robot goes on" in said[0]


def test_a_file_where_the_socket_should_be_is_left_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "robot.yaml"
    place.write_text("home: .")
    station = Station(place, str, dict)
    with pytest.raises(BadInput, match=r"no socket can be made at .*robot.yaml: something else"), station.open():
        pass
    assert place.read_text() == "home: ."
