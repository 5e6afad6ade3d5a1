"""What was judged is what runs: the release's execution and image size, its sequence, and the robot's own flags."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_embodiment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases import EXECUTION, Channel, make_record, make_record_2
from robot.agents import BundlePolicy, load, make_agent, tried_here
from robot.fakes import FakePolicy, FakeRobot

from posa_vla.cli.robot import status
from posa_vla.episodes.embodiment import Channel as ActionChannel
from posa_vla.errors import BadInput, Busy, Refused
from posa_vla.files import write_json
from posa_vla.policy.execution import Execution
from posa_vla.release.channel import ChannelClient
from posa_vla.robot.agent.agent import Agent
from posa_vla.robot.agent.health import RobotPolicy
from posa_vla.robot.agent.provision import provision, tuf_state
from posa_vla.robot.agent.slots import Slots
from posa_vla.robot.agent.status import robot_status
from posa_vla.robot.agent.terms import NOT_FIXED, RunSettings, Terms, terms_of
from posa_vla.robot.control.loop import run_episode
from posa_vla.robot.control.robot import Robot
from posa_vla.robot.control.safety import speed_limited
from posa_vla.robot.station.session import Runner, follow

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


class Bench:
    """A robot's runner, and all that was done with it."""

    def __init__(self, channel: Channel, **own: Any) -> None:
        self.robots: list[tuple[Terms, FakeRobot]] = []
        self.policies: list[BundlePolicy] = []
        self.said: list[str] = []
        self.made_for: Execution | None = None
        self.agent = make_agent(channel, load=self._load)
        self.runner = Runner(self.agent, self._open, RunSettings(**own), seed=1, say=self.said.append)

    def _load(self, folder: Path, digest: str) -> RobotPolicy:
        self.policies.append(BundlePolicy(digest, [[0.05, 1.0]] * 8))
        self.policies[-1].made_for = self.made_for
        return self.policies[-1]

    def _open(self, terms: Terms) -> Robot:
        robot = FakeRobot(size=terms.image_size)
        self.robots.append((terms, robot))
        return robot

    def run(self) -> Terms:
        self.runner.run(1, lambda report: None)
        assert self.runner.session.terms is not None
        return self.runner.session.terms


def test_a_release_runs_as_it_was_judged_whatever_a_robot_has_by_default(channel: Channel) -> None:
    channel.publish(1, schema_version=2)
    bench = Bench(channel)
    bench.runner.update()
    assert bench.policies[0].flow == (3, 0.5), "health is tried with the released flow steps"
    terms = bench.run()
    assert (terms.execution, terms.image_size, terms.fixed, terms.lowered) == (EXECUTION, 32, True, [])
    assert bench.robots[0][0] == terms
    assert len(bench.robots[0][1].applied) == EXECUTION.max_steps
    assert len(bench.policies[-1].seen) == EXECUTION.max_steps / EXECUTION.execute
    assert bench.policies[-1].flow == (3, 0.5)
    assert bench.said == []


def test_a_release_of_version_1_runs_with_the_robots_own_settings(channel: Channel) -> None:
    channel.publish(1)
    bench = Bench(channel)
    bench.runner.update()
    terms = bench.run()
    assert terms.execution == Execution(execute=4, committed=0, ensemble=None, max_steps=60)
    assert (terms.image_size, terms.fixed) == (64, False)
    own = terms_of(make_record("a" * 64), RunSettings(execute=2, ensemble=0.1, image_size=128, max_steps=9))
    assert own.execution == Execution(execute=2, ensemble=0.1, max_steps=9)
    assert own.image_size == 128


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"execute": 4}, "--execute 4: release 7 was judged with 2"),
        ({"committed": 0}, "--committed 0: release 7 was judged with 1"),
        ({"ensemble": 0.1}, "--ensemble 0.1: release 7 was judged with none"),
        ({"max_steps": 21}, "--max-steps 21: release 7 was judged with 20.*or choose a lower one"),
        ({"flow_steps": 2}, "--flow-steps 2: release 7 was judged with 3, and runs with it: leave --flow-steps out"),
        ({"start_noise": 0}, "--start-noise 0.0: release 7 was judged with 0.5, and runs with it: leave --start-noise"),
    ],
)
def test_a_flag_that_differs_from_the_release_or_from_its_bundle_is_refused(own: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        terms_of(make_record_2("a" * 64, 7), RunSettings(**own))
    with pytest.raises(BadInput, match=words):
        terms_of(make_record("a" * 64, 7), RunSettings(**own), bundle=EXECUTION)


def test_a_release_of_version_1_runs_as_its_bundle_says(channel: Channel) -> None:
    channel.publish(1)
    bench = Bench(channel, max_steps=5, image_size=48)
    bench.made_for = EXECUTION
    bench.runner.update()
    terms = bench.run()
    assert terms.execution == EXECUTION.model_copy(update={"max_steps": 5})
    assert (terms.image_size, terms.fixed) == (48, False)
    assert bench.policies[-1].flow == (3, 0.5)


def test_no_robot_chooses_how_an_older_bundle_is_sampled() -> None:
    old = make_record("a" * 64, 7)
    with pytest.raises(BadInput, match=r"--start-noise 0.0: release 7 says nothing of it.*noise of scale 1: leave"):
        terms_of(old, RunSettings(start_noise=0))
    with pytest.raises(BadInput, match=r"--flow-steps 2: release 7 .* its policy's own flow steps: leave --flow-steps"):
        terms_of(old, RunSettings(flow_steps=2))
    assert terms_of(old, RunSettings(start_noise=1)) == terms_of(old, RunSettings())


def test_a_flag_that_says_the_same_or_a_lower_limit_is_applied_and_said(channel: Channel) -> None:
    channel.publish(1, schema_version=2)
    bench = Bench(channel, execute=2, committed=1, image_size=32, max_steps=5, speed_limit=0.25)
    for _ in range(2):
        bench.runner.update()
        terms = bench.run()
    assert terms.execution == EXECUTION.model_copy(update={"max_steps": 5})
    assert len(bench.robots) == 1, "the robot stays connected while nothing changes"
    robot = bench.robots[0][1]
    assert len(robot.applied) == 10
    np.testing.assert_allclose(robot.applied[0], [0.025, 1.0])  # a quarter of 0.1 m; the gripper's target is as it was
    (words,) = bench.said
    assert "5 steps, released were 20" in words
    assert "speed limit is 0.25" in words
    assert bench.runner.session.to_json()["terms"]["lowered"] == terms.lowered


def test_a_speed_limit_is_refused_where_it_would_not_make_the_robot_slower() -> None:
    arm = make_embodiment()
    low, high = speed_limited(arm, 0.5)
    np.testing.assert_allclose((low, high), [[-0.05, 0], [0.05, 1]])
    joint = ActionChannel(name="joint_1", unit="rad", low=-1, high=1)
    with pytest.raises(BadInput, match=r"joint_1 \(rad\) of embodiment test_arm"):
        speed_limited(arm.model_copy(update={"action": [joint]}), 0.5)
    speed = ActionChannel(name="joint_1", unit="rad/s", low=-1, high=1)
    assert speed_limited(arm.model_copy(update={"action": [speed]}), 0.5)[1][0] == 0.5
    for limit in (0.0, 1.5):
        with pytest.raises(BadInput, match="at most 1"):
            speed_limited(arm, limit)
    report = run_episode(FakeRobot(), FakePolicy([[0.05, 1.0]] * 4), seed=0, way=Execution(execute=4), speed_limit=0.2)
    assert report.clamped == 60


class _Enough(Exception):
    pass


def test_a_robot_whose_flags_contradict_a_new_release_stands_and_says_so(channel: Channel) -> None:
    channel.publish(1, schema_version=2)
    bench, rounds, steps = Bench(channel, execute=2), iter(range(4)), []

    def wait(seconds: float) -> None:
        number = next(rounds)
        steps.append(len(bench.runner.session.episodes))
        if number == 0:
            way = EXECUTION.model_copy(update={"execute": 3})
            channel.publish(2, seed=1, schema_version=2, execution=way)  # the same bundle, run otherwise
        if number == 2:
            channel.publish(3, schema_version=2)
        if number == 3:
            raise _Enough

    with pytest.raises(_Enough):
        follow(bench.runner, 1, 0.0, lambda report: None, bench.said.append, wait)
    assert steps == [1, 1, 1, 2]
    (words,) = bench.said
    assert "--execute 2: release 2 was judged with 3" in words


def test_a_robot_is_opened_anew_for_pictures_of_another_size(channel: Channel) -> None:
    bench = Bench(channel)
    for release, size in ((1, 32), (2, 32), (3, 48)):
        channel.publish(release, schema_version=2, image_size=size)
        bench.runner.update()
        bench.run()
    assert [terms.image_size for terms, _ in bench.robots] == [32, 48]


# Sequence


def test_older_records_are_refused_once_a_sequence_was_seen(channel: Channel) -> None:
    channel.publish(1)
    assert make_agent(channel).update().status == "installed"
    home = channel.folder / "robot"
    assert json.loads((home / "state.json").read_text())["schema_version"] == 1, "older agents still read it"
    channel.publish(2, schema_version=2, sequence=5)
    assert make_agent(channel).update().release == 2
    for release, changes, words in (
        (3, {"sequence": 4}, "sequence 4; this robot has seen sequence 5"),
        (3, {"sequence": 5}, "sequence 5; this robot has seen sequence 5"),
        (1, {"sequence": 5, "rollback": True}, "for a rollback too"),
        (2, {"schema_version": 1}, "record of version 1"),
        (1, {"schema_version": 1, "rollback": True}, "publish a release of record version 2"),
    ):
        channel.publish(release, **{"schema_version": 2, **changes})
        report = make_agent(channel).update()
        assert (report.status, report.release) == ("refused", 2)
        assert words in report.reason
    channel.publish(1, schema_version=2, sequence=6, rollback=True)
    assert make_agent(channel).update().release == 1


def test_a_robot_with_a_new_chain_of_trust_counts_sequences_anew(tmp_path: Path) -> None:
    """Another publisher's channel begins at 1. While an agent runs nothing is changed, nor by the same trust again."""
    home = tmp_path / "robot"
    for name, sequence in (("old", 7), ("new", 1)):
        channel = Channel(tmp_path / name, str(tmp_path / name / "channel"))
        channel.publish(1, seed=sequence, schema_version=2, sequence=sequence)
        root = channel.publisher.root_bytes()
        if name == "new":
            before = (home / "state.json").read_bytes()
            with Slots(home).lock(), pytest.raises(Busy, match="held by another agent"):
                provision(home, root, channel.trust)
            assert (home / "state.json").read_bytes() == before
        provision(home, root, channel.trust)
        agent = Agent(
            home,
            ChannelClient(channel.location, tuf_state(home), root),
            channel.trust,
            load=load,
            check=tried_here(load),
        )
        report = agent.update()
        assert report.status == "installed", report.reason
        seen = Slots(home).state.seen
        with Slots(home).lock():
            provision(home, root, channel.trust)
        assert Slots(home).state.seen == seen


def test_a_release_whose_slot_was_damaged_is_taken_again(channel: Channel) -> None:
    channel.publish(1, schema_version=2)
    agent = make_agent(channel)
    agent.update()
    agent.slots.clear("a")
    assert agent.slots.running is None
    assert agent.update().status == "installed"


def test_an_unhealthy_release_is_seen_too(channel: Channel) -> None:
    def broken(folder: Path, digest: str) -> RobotPolicy:
        raise RuntimeError("cannot allocate")

    channel.publish(1, schema_version=2, sequence=3)
    for _ in range(2):
        assert "cannot allocate" in make_agent(channel, load=broken).update().reason, "it is tried again"
    channel.publish(2, schema_version=2, sequence=2)
    assert "sequence 2" in make_agent(channel).update().reason


_OFFERS = st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(1, 5), st.booleans()), min_size=1, max_size=12)


class _Offered:
    """A channel that offers whatever it is told to, signed and with its bundle: what a replay would look like."""

    def __init__(self, envelope: bytes) -> None:
        self.envelope = envelope

    def latest(self, target: str) -> bytes | None:
        return self.envelope


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offers=_OFFERS)
def test_no_order_of_signed_records_takes_a_robot_back(tmp_path_factory: pytest.TempPathFactory, offers: Any) -> None:
    slots = Slots(tmp_path_factory.mktemp("home"))
    taken: list[tuple[int, str]] = []
    for release, sequence, rollback in offers:
        if sequence is None:
            record = make_record("a" * 64, release, rollback=rollback)
        else:
            record = make_record_2("a" * 64, release, rollback=rollback, sequence=sequence)
        digest = f"{release}-{sequence}-{rollback}"
        try:
            slots.require_newest(record, digest)
        except Refused:
            assert taken, "a robot that saw no sequence goes by the rules of version 1"
            assert (record.sequence or 0, digest) != taken[-1]
            assert record.sequence is None or record.sequence <= taken[-1][0]
            continue
        slots.note(record, digest)
        if record.sequence is not None:
            taken.append((record.sequence, digest))
        else:
            assert not taken
    for before, after in itertools.pairwise(taken):
        assert after == before or after[0] > before[0]


@pytest.mark.parametrize("version", [1, 2])
def test_states_of_every_version_stay_readable_and_are_written_the_same(tmp_path: Path, version: int) -> None:
    golden = GOLDEN / f"slot-state-{version}.json"
    (tmp_path / "state.json").write_bytes(golden.read_bytes())
    state = Slots(tmp_path).state
    assert state.schema_version == version
    assert (None if state.seen is None else state.seen.sequence) == (None if version == 1 else 7)
    assert state.slots["b"].release == 3
    write_json(tmp_path / "again.json", state.model_dump(mode="json"))
    assert (tmp_path / "again.json").read_bytes() == golden.read_bytes()


def test_status_says_what_the_release_fixes(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    home = channel.folder / "robot"
    provision(home, channel.publisher.root_bytes(), channel.trust)
    for version, words in ((1, NOT_FIXED), (2, "execute 2, committed 1, ensemble none, flow_steps 3")):
        channel.publish(version, schema_version=version)
        make_agent(channel).update()
        document = robot_status(home, channel.trust)
        assert document["release"]["number"] == version
        assert words in document["runs_with"]
        status(home)
        assert words.split(",")[0] in capsys.readouterr().out
    assert document["execution"] == EXECUTION.model_dump(mode="json")
    assert (document["image_size"], document["sequence"]) == (32, 2)
