"""What a robot runs after everything that can happen to an update."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from releases import Channel, flip
from robot.agents import BundlePolicy, load_broken, load_nan, load_stranger, load_wild, make_agent, runs
from robot.fakes import SIZE
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import Busy, PosaError, Refused
from posa_vla.policy.policy import Observation
from posa_vla.release import publisher as publishing
from posa_vla.release.record import record_digest
from posa_vla.robot.agent.health import Load, RobotPolicy, unhealthy

ROOT = Path(__file__).parents[3]


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path, str(tmp_path / "channel"))


def test_a_release_is_installed_once_and_a_newer_one_beside_it(channel: Channel) -> None:
    assert make_agent(channel).update().status == "unchanged"
    for release in (1, 2, 3):
        channel.publish(release)
        agent = make_agent(channel)
        report = agent.update()
        assert (report.status, report.release, report.reason) == ("installed", release, "")
        assert agent.update().status == "unchanged"
    assert sorted(held.release for held in agent.slots.state.slots.values()) == [2, 3]
    assert runs(channel) == 3


def test_nothing_runs_before_the_first_release(channel: Channel) -> None:
    agent = make_agent(channel)
    agent.update()
    with pytest.raises(Refused, match="nothing is installed"):
        agent.installed()


@pytest.mark.fault
def test_the_robot_refuses_a_bundle_with_one_flipped_byte(channel: Channel) -> None:
    channel.publish(1)
    make_agent(channel).update()
    channel.publish(2)
    weights = sorted(Path(channel.location).rglob("*.model.safetensors"), key=lambda p: p.stat().st_mtime)[-1]
    flip(weights)
    agent = make_agent(channel)
    report = agent.update()
    assert report.status == "refused"
    assert report.release == 1
    assert runs(channel) == 1
    assert not agent.slots.incoming.exists()


@pytest.mark.fault
def test_a_byte_that_flips_on_the_robot_brings_back_the_other_slot(channel: Channel) -> None:
    for release in (1, 2):
        channel.publish(release)
        make_agent(channel).update()
    agent = make_agent(channel)
    active = agent.slots.state.active
    assert active is not None
    flip(agent.slots.folder(active) / "model.safetensors")
    with pytest.raises(Refused, match="changed"):
        agent.installed()
    found = agent.recover()
    assert any("back to release 1" in words for words in found)
    assert runs(channel) == 1
    assert make_agent(channel).update().release == 2  # and the channel heals it


def test_an_older_release_is_refused_unless_it_is_a_signed_rollback(channel: Channel) -> None:
    channel.publish(5)
    make_agent(channel).update()
    channel.publish(4)
    report = make_agent(channel).update()
    assert report.status == "refused"
    assert "release 4" in report.reason
    assert runs(channel) == 5
    channel.publish(4, rollback=True)
    assert make_agent(channel).update().status == "installed"
    assert runs(channel) == 4


@pytest.mark.fault
def test_what_was_rolled_back_from_never_comes_back_by_damage(channel: Channel) -> None:
    for release in (4, 5):
        channel.publish(release)
        make_agent(channel).update()
    channel.publish(4, rollback=True)
    agent = make_agent(channel)
    agent.update()
    active = agent.slots.state.active
    assert active is not None
    flip(agent.slots.folder(active) / "model.safetensors")
    agent.recover()
    assert agent.slots.running is None, "the robot stands rather than run release 5"
    assert make_agent(channel).update().release == 4


@pytest.mark.parametrize("changes", [{"target": "other"}, {"embodiment_digest": "0" * 64}, {"simulated": False}])
def test_a_release_for_another_robot_is_not_even_downloaded(channel: Channel, changes: dict[str, object]) -> None:
    channel.publish(1, **changes)
    seen: list[str] = []
    report = make_agent(channel, checkpoint=seen.append).update()
    assert report.status == "refused"
    assert "download" not in seen
    assert runs(channel) is None


def test_a_release_by_an_unknown_publisher_is_refused(channel: Channel) -> None:
    channel.publish(1)
    from releases import make_trust

    report = make_agent(channel, trust=make_trust(CryptoSigner.generate_ed25519())).update()
    assert report.status == "refused"
    assert "trusted publisher" in report.reason


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (load_nan, "not finite"),
        (load_wild, "limits"),
        (load_broken, "cannot allocate"),
        (load_stranger, "another_arm"),
    ],
)
def test_an_unhealthy_release_is_reverted_and_left_alone_after_three_tries(
    channel: Channel, bad: Load, words: str
) -> None:
    channel.publish(1)
    make_agent(channel).update()
    channel.publish(2)
    for _ in range(3):
        report = make_agent(channel, load=bad).update()
        assert report.status == "refused"
        assert words in report.reason
        assert report.release == 1
        assert runs(channel) == 1
    seen: list[str] = []
    report = make_agent(channel, checkpoint=seen.append).update()
    assert "3 attempts" in report.reason
    assert "health" not in seen
    agent = make_agent(channel, load=bad)
    agent.slots.forget_attempts()
    assert words in agent.update().reason, "tried again"
    channel.publish(3)
    assert make_agent(channel).update().release == 3


def test_expired_metadata_blocks_installs_and_stops_nothing(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    channel.publish(1)
    make_agent(channel).update()
    monkeypatch.setitem(publishing.LIFETIMES, "timestamp", timedelta(seconds=-1))
    channel.publish(2)
    report = make_agent(channel).update()
    assert report.status == "refused"
    assert "expired" in report.reason
    assert runs(channel) == 1


def test_an_unreachable_channel_stops_nothing(channel: Channel) -> None:
    channel.publish(1)
    make_agent(channel).update()
    agent = make_agent(channel)
    os.rename(channel.location, channel.folder / "gone")
    report = agent.update()
    assert (report.status, report.release) == ("refused", 1)
    assert agent.installed()[1].digest == report.digest


def test_a_damaged_state_is_not_guessed_at(channel: Channel) -> None:
    channel.publish(1)
    make_agent(channel).update()
    (channel.folder / "robot" / "state.json").write_text('{"active": "a"')
    report = make_agent(channel).update()
    assert report.status == "refused"
    assert "state.json" in report.reason
    with pytest.raises(Refused, match=r"state\.json"):
        make_agent(channel).installed()


def test_what_a_later_agent_wrote_is_kept_for_the_upgrade(channel: Channel) -> None:
    """After a downgrade: the message says to upgrade, and neither the state nor what runs is thrown away."""
    home = channel.folder / "robot"
    channel.publish(1, schema_version=2)
    make_agent(channel).update()
    sound = (home / "state.json").read_text()
    for text in (
        sound.replace('"schema_version": 2', '"schema_version": 3'),
        _with_a_later_record(channel, home, sound),
    ):
        assert text != sound
        (home / "state.json").write_text(text)
        report = make_agent(channel).update()
        assert report.status == "refused"
        assert "later posa-vla" in report.reason
        assert "pip install --upgrade posa-vla" in report.reason
        assert "delete" not in report.reason
        with pytest.raises(PosaError, match="later posa-vla"):
            make_agent(channel).installed()
        assert (home / "state.json").read_text() == text
        assert (home / "slots" / "a" / "manifest.json").exists()


def _with_a_later_record(channel: Channel, home: Path, state: str) -> str:
    """Puts a signed record of version 3 into slot a; returns the state that names it."""
    path = home / "slots" / "a.json"
    before, envelope = record_digest(path.read_bytes()), Envelope.from_dict(json.loads(path.read_bytes()))
    statement = json.loads(envelope.payload)
    statement["predicate"]["schema_version"] = 3
    later = Envelope(json.dumps(statement).encode(), envelope.payload_type, {})
    later.sign(channel.publisher.record_signer)
    path.write_text(json.dumps(later.to_dict()))
    return state.replace(before, record_digest(path.read_bytes()))


def test_two_agents_do_not_share_a_home(channel: Channel) -> None:
    first, second = make_agent(channel), make_agent(channel)
    with first.slots.lock(), pytest.raises(Busy, match="another agent"), second.slots.lock():
        pass


STAGES = ["refresh", "download", "verify", "stage", "mark", "health", "commit", "done"]


def _update_and_die(channel: Channel, stage: str) -> None:
    def die(reached: str) -> None:
        if reached == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    make_agent(channel, checkpoint=die).update()


@pytest.mark.fault
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("before", [None, 1])
def test_killed_at_any_stage_one_whole_release_runs(channel: Channel, stage: str, before: int | None) -> None:
    if before is not None:
        channel.publish(before)
        make_agent(channel).update()
    channel.publish(2)
    process = multiprocessing.get_context("fork").Process(target=_update_and_die, args=(channel, stage))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert runs(channel) == (2 if stage == "done" else before)
    report = make_agent(channel).update()
    assert report.release == 2
    assert runs(channel) == 2


def test_the_robot_side_imports_no_platform_package() -> None:
    program = (
        "import sys\n"
        "import posa_vla.robot.agent.agent, posa_vla.robot.agent.provision, posa_vla.robot.agent.status\n"
        "import posa_vla.robot.station.session\n"
        "import posa_vla.release.channel, posa_vla.robot.drivers.dry_run, posa_vla.model.posa_policy\n"
        "found = {'ray', 'mlflow', 'prefect', 'dvc', 'mujoco', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("busy", "sound"), [(7, True), (10**9, False)])
def test_a_processor_that_is_busy_for_a_moment_does_not_cost_a_release(
    monkeypatch: pytest.MonkeyPatch, busy: int, sound: bool
) -> None:
    """The first answers are slow because of another program; a policy that is always slow is refused."""
    now, asked = 0.0, 0
    policy = BundlePolicy("f" * 64, [[0.05, 1.0]] * 4)

    def think() -> None:
        nonlocal now, asked
        asked += 1
        now += 1.0 if asked <= busy else 0.01

    policy._think = think
    monkeypatch.setattr("posa_vla.robot.agent.health.time", SimpleNamespace(perf_counter=lambda: now))
    complaint = unhealthy(policy, policy.digest, policy.embodiment.digest, {})
    assert (complaint is None) == sound
    if complaint is not None:
        assert re.search(r"takes 1000 ms an answer, expected at most \d+ ms.*another program", complaint)
        assert asked < 30


def test_what_the_policy_is_asked_fits_its_interface(channel: Channel) -> None:
    channel.publish(1)
    made: list[BundlePolicy] = []

    def remember(folder: Path, digest: str) -> RobotPolicy:
        made.append(BundlePolicy(digest, [[0.05, 1.0]] * 4))
        return made[-1]

    make_agent(channel, load=remember).update()
    seen: list[Observation] = made[0].seen
    assert seen
    for observation in seen:
        assert {image.shape for image in observation.images.values()} == {(SIZE, SIZE, 3)}
        assert observation.state.shape == (3,)
