"""A policy is tried in a process of its own, which ends when its time or its memory is over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from releases import TARGET, Channel, make_record
from robot.agents import make_agent, runs

from posa_vla.release.bundle import Bundle, build_bundle
from posa_vla.release.record import sign_record
from posa_vla.robot.agent.trial import check_health

GOLDEN = Path(__file__).parents[2] / "golden" / "policy-1"


def policy_bundle(folder: Path, **architecture: int) -> Bundle:
    """A real policy, whose configuration says another size than its weights have."""
    files = folder / "policy-files"
    shutil.copytree(GOLDEN, files)
    config = json.loads((files / "config.json").read_text())
    config["params"].update(architecture)
    (files / "config.json").write_text(json.dumps(config))
    return build_bundle(files, folder / "bundles")


@pytest.mark.fault
def test_a_policy_that_takes_more_memory_than_the_robot_has_ends_its_trial_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration says some 16 GB; in the agent's own process the kernel would end the robot's control."""
    channel = Channel(tmp_path, str(tmp_path / "channel"))
    channel.publish(1)
    make_agent(channel).update()
    bundle = policy_bundle(tmp_path, flow_width=1 << 15)
    envelope = sign_record(make_record(bundle.digest, 2), channel.publisher.record_signer)
    channel.publisher.publish(TARGET, envelope, bundle)
    monkeypatch.setattr("posa_vla.robot.agent.trial.memory_left", lambda: 1_000_000_000)
    report = make_agent(channel, check=check_health).update()
    assert (report.status, report.release) == ("refused", 1)
    assert "allocate memory" in report.reason
    assert report.reason.endswith("(it may take 900 MB of memory)")
    assert runs(channel) == 1


@pytest.mark.fault
def test_a_policy_that_never_answers_is_ended_when_its_time_is_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = policy_bundle(tmp_path, flow_layers=100_000)
    complaint = check_health(bundle.folder, bundle.digest, "0" * 64, {}, None, 2.0, 2_000_000_000)
    assert complaint == "it did not report healthy within 2 s"
    assert capfd.readouterr().err == "", "nobody is left who would say something"


def test_a_trial_whose_agent_was_killed_while_it_began_ends_by_itself() -> None:
    request = {"folder": str(GOLDEN), "digest": "0" * 64, "embodiment_digest": "0" * 64, "sizes": {}}
    text = json.dumps({**request, "execution": None, "memory": None}).encode()
    for parent, answers in ((os.getpid(), True), (1 << 30, False)):
        command = [sys.executable, "-m", "posa_vla.robot.agent.trial", str(parent)]
        done = subprocess.run(command, input=text, capture_output=True, check=True, timeout=60)
        assert bool(done.stdout) == answers
