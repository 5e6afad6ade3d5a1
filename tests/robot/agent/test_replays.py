"""Whoever holds the channel's online keys alone plays old signed records back; the robot knows better."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from releases import TARGET, Channel
from robot.agents import make_agent, runs

from posa_vla.release.bundle import Bundle
from posa_vla.release.channel import ChannelClient
from posa_vla.robot.agent.slots import Slots

pytestmark = pytest.mark.fault

# When the records of a test were made: one a minute.
TIMES = [f"2026-11-24T12:{minute:02}:00Z" for minute in range(60)]


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


def history(channel: Channel, version: int) -> list[tuple[Bundle, bytes]]:
    """Releases 1 and 2, a rollback to 1, releases 3 and 4, each taken by the robot; returns what was published."""
    published = []
    for number, (release, rollback) in enumerate([(1, False), (2, False), (1, True), (3, False), (4, False)]):
        added = {"schema_version": 2, "sequence": number + 1} if version == 2 else {}
        published.append(channel.publish(release, rollback=rollback, created=TIMES[number], **added))
        assert make_agent(channel).update().status == "installed"
    return published


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_of_the_past_is_taken_again_whatever_it_was(channel: Channel, version: int) -> None:
    published = history(channel, version)
    for bundle, envelope in published[:-1]:
        channel.publisher.publish(TARGET, envelope, bundle)
        report = make_agent(channel).update()
        assert (report.status, report.release) == ("refused", 4), report.reason
    added = {"schema_version": 2, "sequence": 6} if version == 2 else {}
    channel.publish(3, rollback=True, created=TIMES[5], **added)
    assert make_agent(channel).update().status == "installed", "a rollback of today is taken"
    bundle, withdrawn = published[-1]
    channel.publisher.publish(TARGET, withdrawn, bundle)
    report = make_agent(channel).update()
    assert (report.status, report.release) == ("refused", 3), "release 4 is no newer one"
    assert "seen sequence 6" in report.reason if version == 2 else "an older one is not taken" in report.reason
    assert runs(channel) == 3


def test_the_number_of_a_release_of_version_1_counts_as_the_first_sequence(channel: Channel) -> None:
    """The publisher went back to version 1 after sequence 3; a robot that came later saw nothing of version 2."""
    bundle, envelope = channel.publish(2, rollback=True, schema_version=2, sequence=3)
    channel.publish(4)
    assert make_agent(channel).update().release == 4
    channel.publisher.publish(TARGET, envelope, bundle)
    report = make_agent(channel).update()
    assert (report.status, report.release) == ("refused", 4)
    assert "release 4, which counts as sequence 4" in report.reason
    channel.publish(5, schema_version=2, sequence=5)
    assert make_agent(channel).update().release == 5


@pytest.mark.parametrize(
    ("place", "ends"),
    [
        ("state.json", ("refused", None, "nested too deeply")),
        ("slots/a.json", ("installed", 1, "nested too deeply")),
        ("tuf/timestamp.json", ("unchanged", 1, "")),
        ("channel", ("refused", 1, "timestamp.json is nested too deeply")),
    ],
)
def test_json_that_is_nested_without_end_does_not_end_the_agent(
    channel: Channel, place: str, ends: tuple[str, int | None, str]
) -> None:
    channel.publish(1)
    make_agent(channel).update()
    file = channel.folder / ("channel/metadata/timestamp.json" if place == "channel" else f"robot/{place}")
    file.write_bytes(b'{"a":' * 3_000)
    report = make_agent(channel).update()
    assert (report.status, report.release) == ends[:2]
    assert ends[2] in report.reason


def _update_and_die(channel: Channel) -> None:
    """Dies where TUF has written metadata beside its place, and would rename them."""

    def die(source: str, target: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = die  # type: ignore[assignment]  # in this process, which ends here
    ChannelClient(channel.location, channel.folder / "tuf", channel.publisher.root_bytes()).latest(TARGET)


def test_what_killed_updates_left_is_removed(channel: Channel) -> None:
    channel.publish(1)
    state, home = channel.folder / "tuf", channel.folder / "robot"
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=_update_and_die, args=(channel,))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    assert list(state.glob("tmp*")), "the last one's, at least"
    client = ChannelClient(channel.location, state, channel.publisher.root_bytes())
    assert client.latest(TARGET) is not None
    names = {"root.json", "root_history", "snapshot.json", "targets.json", "timestamp.json"}
    assert {path.name for path in state.iterdir()} == names

    make_agent(channel).update()
    (home / ".state.json.abc").write_text(json.dumps({}))
    (home / "slots" / ".a.json.xyz").write_text("")
    Slots(home).clean()
    assert not list(home.rglob(".*"))
    assert runs(channel) == 1
