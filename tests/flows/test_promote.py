"""Registration, approval and release: what reaches the channel, and what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from releases import flip
from untrained import arm_params, real_arm, untrained_bundle

from flows.champion import champion_bundle, promotion_log, records_folder, settle, withdrawn
from flows.evaluate import decide_candidate, evidence_path
from flows.promote import register_candidate, release_candidate
from flows.reconcile import reconcile_workspace
from flows.retraining import Retraining, open_retraining
from flows.rollback import roll_back
from posa_vla.errors import BadInput, PosaError
from posa_vla.evidence.evidence import EpisodeRow, Evidence, write_evidence
from posa_vla.files import canonical_json
from posa_vla.params import Params
from posa_vla.promotion.registry import CHAMPION, champion_version, set_champion
from posa_vla.release.bundle import Bundle
from posa_vla.release.keys import create_key, public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import read_record
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[2]
DATA = {"version": "d" * 64, "commit": "c" * 40, "episodes": 9, "frames": 99, "folder": "data"}
TRAINED = {"key": "t" * 64, "files": "files", "seconds": 1.0}


def make_workspace(folder: Path) -> Workspace:
    return Workspace.open(Settings(home=folder / "home"))


@dataclass
class Candidate:
    """A bundle in a workspace, with evidence that it solved a number of scenes."""

    retraining: Retraining
    bundle: Bundle

    def evaluated(self, solved: int, champion: str | None = None) -> dict[str, Any]:
        rows = [EpisodeRow(scene_seed=i, success=i < solved, steps=20, path_length=0.3) for i in range(30)]
        evidence = Evidence(
            policy_digest=self.bundle.digest, suite={}, planned=30, rows=rows, hardware="test", versions={}
        )
        write_evidence(evidence_path(self.retraining.workspace, evidence.digest), evidence)
        summary = {"success_rate": solved / 30, "episodes": 30}
        return {
            "bundle": self.bundle.digest,
            "evidence": evidence.digest,
            "champion": champion,
            "champion_evidence": None,
            "summary": summary,
            "reports": "evaluations/none",
        }

    def promote(self, solved: int = 30, champion: str | None = None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Decides, registers, and releases after "promote"; what the flow does."""
        evaluated = self.evaluated(solved, champion)
        decided = decide_candidate(self.retraining, evaluated)
        registered = register_candidate(self.retraining, DATA, TRAINED, evaluated, decided)
        if decided["verdict"] != "promote":
            return decided, None
        return decided, release_candidate(self.retraining, DATA, evaluated, decided, registered)


def candidate(retraining: Retraining, params: Params, folder: Path, seed: int = 0) -> Candidate:
    made = untrained_bundle(folder, params, seed)
    place = retraining.workspace.bundles / made.digest
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        made.folder.rename(place)
    return Candidate(retraining, Bundle(made.digest, place))


def test_the_verdict_decides_what_is_released(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        decided, released = made.promote(solved=5)
        assert (decided["verdict"], released) == ("reject", None)
        assert champion_bundle(workspace, "t") is None
        assert [e["kind"] for e in promotion_log(workspace, "t").entries()] == ["reject"]
        client = connect(workspace.mlflow_uri)
        (version,) = client.search_model_versions("name = 't'")
        assert version.tags["posa.verdict"] == "reject"
        assert client.get_registered_model("t").aliases == {}
        assert not Path(workspace.channel).exists()

        decided, released = made.promote(solved=30)
        assert decided["verdict"] == "promote"
        assert released is not None
        assert (released["release"], released["pending"]) == (1, None)
        assert champion_bundle(workspace, "t") == made.bundle.digest
        assert str(client.get_model_version_by_alias("t", CHAMPION).version) == "1"
        assert len(client.search_model_versions("name = 't'")) == 1
        assert Publisher(workspace.channel, workspace.keys).current("t") is not None

        log = promotion_log(workspace, "t").entries()
        assert made.promote(solved=30)[1] == released
        assert promotion_log(workspace, "t").entries() == log


@pytest.mark.fault
def test_a_release_that_was_cut_off_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        for owner, name in ((Publisher, "publish"), (type(promotion_log(workspace, "t")), "append")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, _cut)
                with pytest.raises(ConnectionError):
                    made.promote()
        _, released = made.promote()
        assert released is not None
        assert released["release"] == 1
        assert len(list(records_folder(workspace, "t").iterdir())) == 1
        assert len(promotion_log(workspace, "t").entries()) == 1


def _cut(*_: Any, **__: Any) -> None:
    raise ConnectionError("cut")


def test_a_new_champion_since_the_evaluation_stops_the_release(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        promotion_log(workspace, "t").append({"key": "k", "kind": "promote", "bundle": "b" * 64})
        with pytest.raises(PosaError, match="another champion"):
            made.promote()
        assert not Path(workspace.channel).exists()


def test_a_release_that_was_killed_after_the_log_reaches_the_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        with monkeypatch.context() as patch:
            patch.setattr(Publisher, "publish", _cut)
            with pytest.raises(ConnectionError):
                made.promote()
    assert champion_bundle(workspace, "t") == made.bundle.digest
    assert Publisher(workspace.channel, workspace.keys).current("t") is None
    assert settle(workspace, "t")
    assert Publisher(workspace.channel, workspace.keys).current("t") is not None
    assert not settle(workspace, "t")


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["cut", "another bundle"])
def test_a_log_whose_end_was_cut_or_changed_is_noticed(tmp_path: Path, damage: str) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_retraining(workspace, params, "test") as retraining:
        candidate(retraining, params, tmp_path / "policy").promote()
    log = workspace.promotions / "t" / "log.jsonl"
    if damage == "cut":
        log.write_bytes(b"")
    else:
        entry = json.loads(log.read_bytes())
        log.write_bytes(canonical_json({**entry, "bundle": "e" * 64}) + b"\n")
    with pytest.raises(BadInput, match="restore"):
        settle(workspace, "t")


def two_releases(tmp_path: Path) -> tuple[Workspace, Params, list[Candidate]]:
    params, workspace = arm_params(), make_workspace(tmp_path)
    made: list[Candidate] = []
    with open_retraining(workspace, params, "test") as retraining:
        for seed in (0, 1):
            made.append(candidate(retraining, params, tmp_path / f"policy-{seed}", seed))
            champion = champion_bundle(workspace, "t")
            _, released = made[-1].promote(champion=champion)
            assert released is not None
            assert released["release"] == seed + 1
    return workspace, params, made


def shown(workspace: Workspace) -> tuple[int, bool, str]:
    envelope = Publisher(workspace.channel, workspace.keys).current("t")
    assert envelope is not None
    record = read_record(envelope)
    return record.release, record.rollback, record.bundle_digest


def test_a_rollback_puts_the_release_before_back_and_keeps_the_other_away(tmp_path: Path) -> None:
    workspace, params, (first, second) = two_releases(tmp_path)
    with pytest.raises(BadInput, match="needs a reason"):
        roll_back(workspace, params, None, " ")
    with pytest.raises(BadInput, match="it has 1"):
        roll_back(workspace, params, 7, "no such release")
    assert shown(workspace) == (2, False, second.bundle.digest)

    result = roll_back(workspace, params, None, "drops cubes")
    assert (result["release"], result["model_version"]) == (1, "1")
    assert shown(workspace) == (1, True, first.bundle.digest)
    assert champion_bundle(workspace, "t") == first.bundle.digest
    assert champion_version(workspace.mlflow_uri, "t") == "1"
    with pytest.raises(BadInput, match="the first one"):
        roll_back(workspace, params, None, "again")

    assert withdrawn(workspace, "t", second.bundle.digest) == "drops cubes"
    with open_retraining(workspace, params, "test") as retraining:
        second.retraining = retraining
        decided, released = second.promote(champion=first.bundle.digest)
    assert decided["verdict"] == "promote"
    assert released is not None
    assert released["release"] is None
    assert "drops cubes" in released["pending"]
    assert shown(workspace) == (1, True, first.bundle.digest)

    assert roll_back(workspace, params, 2, "it was the gripper")["release"] == 2
    assert shown(workspace) == (2, True, second.bundle.digest)
    assert withdrawn(workspace, "t", second.bundle.digest) is None
    kinds = [entry["kind"] for entry in promotion_log(workspace, "t").entries()]
    assert kinds == ["promote", "promote", "rollback", "rollback"]


@pytest.mark.fault
def test_a_rollback_that_was_cut_off_is_one_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, params, (first, _) = two_releases(tmp_path)
    for owner, name in ((type(promotion_log(workspace, "t")), "append"), (Publisher, "publish")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _cut)
            with pytest.raises(ConnectionError):
                roll_back(workspace, params, 1, "drops cubes")
    assert settle(workspace, "t"), "the log says so already; the channel follows"
    assert shown(workspace) == (1, True, first.bundle.digest)
    assert len(promotion_log(workspace, "t").entries()) == 3


def test_reconcile_sets_the_alias_back_and_says_so(tmp_path: Path) -> None:
    workspace, params, _ = two_releases(tmp_path)
    set_champion(workspace.mlflow_uri, "t", "1")
    findings = {finding.what: finding for finding in reconcile_workspace(workspace, params)}
    assert findings["alias champion of t"].done == "set to version 2, as the log has it"
    assert champion_version(workspace.mlflow_uri, "t") == "2"
    assert all(finding.sound and not finding.done for finding in reconcile_workspace(workspace, params))


def test_reconcile_goes_on_where_something_cannot_be_looked_at(tmp_path: Path) -> None:
    workspace, params, _ = two_releases(tmp_path)
    set_champion(workspace.mlflow_uri, "t", "1")
    flip(Path(workspace.channel) / "metadata" / "1.root.json")
    findings = reconcile_workspace(workspace, params)
    assert {finding.what for finding in findings if not finding.sound} == {"releases", "release channel"}
    assert champion_version(workspace.mlflow_uri, "t") == "2"


def posa(home: Path, *arguments: str) -> tuple[int, Any, str]:
    command = [sys.executable, "-m", "posa_vla.cli.main", *arguments, "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "POSA_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_a_robot_that_exists_waits_for_an_approver(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    key, stranger = tmp_path / "approver.pem", tmp_path / "stranger.pem"
    code, made_key, _ = posa(workspace.home, "approve", "--new-key", str(key))
    assert code == 0
    create_key(stranger)
    target = {"embodiment": arm, "task": "pick", "approvals": 1, "approvers": {"ada": made_key["public"]}}
    params = arm_params(arm, targets={"t": target})
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        _, released = made.promote()
        assert released is not None
        assert released["release"] is None
        record = next(records_folder(workspace, "t").iterdir())
        assert str(record) in released["pending"]
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
        assert (released["release"], released["pending"]) == (1, None)
        assert champion_bundle(workspace, "t") == made.bundle.digest


def test_a_robot_that_exists_cannot_be_released_to_without_approvals(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    with pytest.raises(BadInput, match="at least one approval"), open_retraining(workspace, arm_params(arm), "test"):
        pass
    target = {"embodiment": arm, "task": "pick", "approvals": 2, "approvers": {"ada": "0" * 64}}
    params = arm_params(arm, targets={"t": target})
    with pytest.raises(BadInput, match="names 1 approvers"), open_retraining(workspace, params, "test"):
        pass


def test_who_publishes_does_not_approve(tmp_path: Path) -> None:
    arm, workspace = str(real_arm(tmp_path)), make_workspace(tmp_path)
    own = public_hex(Publisher(workspace.channel, workspace.keys).record_signer)
    target = {"embodiment": arm, "task": "pick", "approvals": 1, "approvers": {"me": own}}
    params = arm_params(arm, targets={"t": target})
    with open_retraining(workspace, params, "test") as retraining:
        made = candidate(retraining, params, tmp_path / "policy")
        with pytest.raises(PosaError, match="nobody approves what they publish"):
            made.promote()
