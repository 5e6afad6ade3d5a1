"""Robots that exist wait for people: approvals, who may give them, and who is told that they are missing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from candidates import candidate, make_workspace, two_releases
from securesystemslib.signer import CryptoSigner
from untrained import arm_params, real_arm

from posa_vla.errors import BadInput, PosaError
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announcement, ApprovalNeeded
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.rollback import roll_back
from posa_vla.promotion.champion import champion_bundle
from posa_vla.promotion.kept_records import records_folder
from posa_vla.release.keys import create_key, public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import approve_record

ROOT = Path(__file__).parents[2]


class Told(list[Announcement]):
    """Every announcement, in the place of Prefect's server."""

    def __call__(self, announcement: Announcement) -> None:
        self.append(announcement)


def posa(home: Path, *arguments: str) -> tuple[int, Any, str]:
    command = [sys.executable, "-m", "posa_vla.cli.main", *arguments, "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "POSA_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def approved_by(folder: Path, key: CryptoSigner) -> Params:
    """Parameters of a target that is a robot which exists, with one approver."""
    target = {"embodiment": str(real_arm(folder)), "task": "pick", "approvals": 1}
    return arm_params(targets={"t": {**target, "approvers": {"ada": public_hex(key)}}})


def approve(record: Path, key: CryptoSigner) -> None:
    record.write_bytes(approve_record(record.read_bytes(), key))


def test_people_are_told_of_a_release_while_it_waits_and_not_when_it_is_out(tmp_path: Path) -> None:
    told = Told()
    key, workspace = create_key(tmp_path / "approver.pem"), make_workspace(tmp_path)
    params = approved_by(tmp_path, key)
    with open_context(workspace, params, "test", told) as context:
        made = candidate(context, params, tmp_path / "policy")
        made.promote(solved=5)
        assert told == [], "a refused candidate waits for nobody"
        _, waiting = made.promote()
        assert waiting is not None
        assert told == [ApprovalNeeded("t", waiting.pending)]
        made.promote()
        assert told == [ApprovalNeeded("t", waiting.pending)] * 2, "each run that finds it waiting says so"
        told.clear()

        (record,) = records_folder(workspace, "t").glob("*.dsse.json")
        approve(record, key)
        made.promote()
        made.promote()
    assert champion_bundle(workspace, "t") == made.bundle.digest
    assert told == []


def test_people_are_told_of_a_rollback_while_it_waits_and_not_when_it_is_out(tmp_path: Path) -> None:
    told = Told()
    key, workspace = create_key(tmp_path / "approver.pem"), make_workspace(tmp_path)
    params, made = approved_by(tmp_path, key), []
    with open_context(workspace, params, "test", told) as context:
        for seed in (0, 1):
            made.append(candidate(context, params, tmp_path / f"policy-{seed}", seed))
            champion = champion_bundle(workspace, "t")
            made[-1].promote(champion=champion)
            for record in records_folder(workspace, "t").glob("*.dsse.json"):
                approve(record, key)
            made[-1].promote(champion=champion)
    assert champion_bundle(workspace, "t") == made[1].bundle.digest
    told.clear()

    waiting = roll_back(workspace, params, None, "drops cubes", told)
    assert waiting.release is None
    assert told == [ApprovalNeeded("t", waiting.pending)]
    (record,) = (records_folder(workspace, "t") / "rollbacks").iterdir()
    assert str(record) in waiting.pending
    assert champion_bundle(workspace, "t") == made[1].bundle.digest
    told.clear()

    printed = shlex.split(waiting.pending.partition("posa ")[2])
    arguments = [str(tmp_path / "approver.pem") if argument == "FILE" else argument for argument in printed]
    code, answer, errors = posa(workspace.home, *arguments, "--yes")
    assert (code, answer["missing"]) == (0, 0), errors
    assert roll_back(workspace, params, None, "drops cubes", told).release == 1
    assert champion_bundle(workspace, "t") == made[0].bundle.digest
    assert told == []


def test_nobody_is_told_where_no_approval_is_asked_for(tmp_path: Path) -> None:
    told = Told()
    workspace, params, (first, _) = two_releases(tmp_path)
    roll_back(workspace, params, None, "drops cubes", told)
    assert champion_bundle(workspace, "t") == first.bundle.digest
    assert told == []


def test_a_robot_that_exists_waits_for_an_approver(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    key, stranger = tmp_path / "approver.pem", tmp_path / "stranger.pem"
    code, made_key, _ = posa(workspace.home, "approve", "--new-key", str(key))
    assert code == 0
    create_key(stranger)
    target = {"embodiment": arm, "task": "pick", "approvals": 1, "approvers": {"ada": made_key["public"]}}
    params = arm_params(arm, targets={"t": target})
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        _, released = made.promote()
        assert released is not None
        assert released.release is None
        record = next(records_folder(workspace, "t").iterdir())
        assert str(record) in released.pending
        assert champion_bundle(workspace, "t") is None
        assert Publisher(workspace.channel, workspace.keys).current("t") is None

        for wrong in (stranger, workspace.keys / "publisher.pem"):
            code, answer, _ = posa(workspace.home, "approve", str(record), "--key", str(wrong), "--yes")
            assert code == 2, answer
        assert posa(workspace.home, "approve", str(record), "--key", str(key))[0] == 1  # nobody said yes
        assert made.promote()[1] == released

        code, answer, errors = posa(workspace.home, "approve", str(record), "--key", str(key), "--yes")
        assert code == 0, errors
        assert answer["missing"] == 0
        assert made.bundle.digest in errors
        _, released = made.promote()
        assert released is not None
        assert (released.release, released.pending) == (1, None)
        assert champion_bundle(workspace, "t") == made.bundle.digest


def test_a_robot_that_exists_cannot_be_released_to_without_approvals(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    with pytest.raises(BadInput, match="at least one approval"), open_context(workspace, arm_params(arm), "test"):
        pass
    ada = public_hex(CryptoSigner.generate_ed25519())
    target = {"embodiment": arm, "task": "pick", "approvals": 2, "approvers": {"ada": ada}}
    params = arm_params(arm, targets={"t": target})
    with pytest.raises(BadInput, match="names 1 approvers"), open_context(workspace, params, "test"):
        pass


def test_who_publishes_does_not_approve(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    own = public_hex(Publisher(workspace.channel, workspace.keys).record_signer)
    target = {"embodiment": arm, "task": "pick", "approvals": 1, "approvers": {"me": own}}
    params = arm_params(arm, targets={"t": target})
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        with pytest.raises(PosaError, match="nobody approves what they publish"):
            made.promote()
