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
from untrained import arm_params, real_arm, untrained_bundle

from flows.evaluate import champion_bundle, decide_candidate, evidence_path, promotion_log
from flows.promote import records_folder, register_candidate, release_candidate
from flows.retraining import Retraining, open_retraining
from posa_vla.errors import BadInput, PosaError
from posa_vla.evidence.evidence import EpisodeRow, Evidence, write_evidence
from posa_vla.params import Params
from posa_vla.promotion.registry import CHAMPION
from posa_vla.release.bundle import Bundle
from posa_vla.release.keys import create_key, public_hex
from posa_vla.release.publisher import Publisher
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


def candidate(retraining: Retraining, params: Params, folder: Path) -> Candidate:
    made = untrained_bundle(folder, params)
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
