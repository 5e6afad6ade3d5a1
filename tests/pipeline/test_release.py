"""Registration, release and rollback: what reaches the channel, and what does not."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from candidates import candidate, make_workspace, two_releases
from releases import flip, promotion
from securesystemslib.signer import CryptoSigner
from untrained import arm_params

from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import canonical_json
from posa_vla.params_file import overlaid
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.reconciliation import reconcile_workspace
from posa_vla.pipeline.rollback import roll_back
from posa_vla.pipeline.steps.release import refresh_channel
from posa_vla.promotion.champion import champion_bundle, promotion_log, settle, withdrawn
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.registry import CHAMPION, champion_version, set_champion
from posa_vla.release.channel import ChannelClient
from posa_vla.release.keys import public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import approve_record, read_record
from posa_vla.release.trust import read_trust
from posa_vla.robot.agent.agent import Agent
from posa_vla.robot.agent.provision import provision, tuf_state
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace


def test_the_verdict_decides_what_is_released(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        decided, released = made.promote(solved=5)
        assert (decided.verdict, released) == ("reject", None)
        assert champion_bundle(workspace, "t") is None
        assert [e.kind for e in promotion_log(workspace, "t").entries()] == ["reject"]
        client = connect(workspace.mlflow_uri)
        (version,) = client.search_model_versions("name = 't'")
        assert version.tags["posa.verdict"] == "reject"
        assert version.description.startswith("Reject. The candidate, version 1 of t")
        assert client.get_registered_model("t").aliases == {}
        assert not Path(workspace.channel).exists()

        decided, released = made.promote(solved=30)
        assert decided.verdict == "promote"
        assert released is not None
        assert (released.release, released.pending) == (1, None)
        assert champion_bundle(workspace, "t") == made.bundle.digest
        assert str(client.get_model_version_by_alias("t", CHAMPION).version) == "1"
        assert len(client.search_model_versions("name = 't'")) == 1
        assert Publisher(workspace.channel, workspace.keys).current("t") is not None

        log = promotion_log(workspace, "t").entries()
        assert made.promote(solved=30)[1] == released
        assert promotion_log(workspace, "t").entries() == log


def test_a_retraining_leaves_a_report_and_words_on_the_pages_of_run_version_and_model(tmp_path: Path) -> None:
    workspace, _, _ = two_releases(tmp_path)
    client = connect(workspace.mlflow_uri)
    version = client.get_model_version("t", "2")
    (page,) = [p for p in workspace.home.glob("retrainings/*/report.html") if "version 2 of t" in p.read_text()]
    for told in ("Both learned from data-v1", "All parameters are the champion", "30 of 30 scenes (100 %"):
        assert told in page.read_text()
    run = client.get_run(version.run_id)
    artifact = client.download_artifacts(version.run_id, "report/report.html", str(tmp_path))
    assert "version 2 of t" in Path(artifact).read_text()
    link = f"[Report](#/experiments/{run.info.experiment_id}/runs/{version.run_id}/artifacts/report/report.html?"
    for text in (
        version.description,
        run.data.tags["mlflow.note.content"],
        client.get_registered_model("t").description,
    ):
        assert "30 of 30 scenes (100 %" in text
        assert link in text
    assert run.info.run_name.startswith("preset demo with ")
    assert " parameters changed on data-v1, " in run.info.run_name
    assert [name for name in run.data.metrics if not name.startswith("system/")] == ["evaluation/success_rate"]


@pytest.mark.fault
def test_a_release_that_was_cut_off_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        for owner, name in ((Publisher, "publish"), (type(promotion_log(workspace, "t")), "append")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, _cut)
                with pytest.raises(ConnectionError):
                    made.promote()
        _, released = made.promote()
        assert released is not None
        assert released.release == 1
        assert len(list(records_folder(workspace, "t").iterdir())) == 1
        assert len(promotion_log(workspace, "t").entries()) == 1


def _cut(*_: Any, **__: Any) -> None:
    raise ConnectionError("cut")


def test_a_new_champion_since_the_evaluation_stops_the_release(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        promotion_log(workspace, "t").append(promotion("b" * 64))
        with pytest.raises(PosaError, match="another champion"):
            made.promote()
        assert not Path(workspace.channel).exists()


def test_a_release_that_was_killed_after_the_log_reaches_the_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
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
    with open_context(workspace, params, "test") as context:
        candidate(context, params, tmp_path / "policy").promote()
    log = workspace.promotions / "t" / "log.jsonl"
    if damage == "cut":
        log.write_bytes(b"")
    else:
        entry = json.loads(log.read_bytes())
        log.write_bytes(canonical_json({**entry, "bundle": "e" * 64}) + b"\n")
    with pytest.raises(BadInput, match="restore"):
        settle(workspace, "t")
    with open_context(workspace, params, "test") as context:
        second = candidate(context, params, tmp_path / "second", 1)
        with pytest.raises(BadInput, match="restore"):
            second.promote(champion=None if damage == "cut" else "e" * 64)
    assert len(log.read_bytes().splitlines()) == (0 if damage == "cut" else 1)


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
    assert (result.release, result.model_version) == (1, "1")
    assert shown(workspace) == (1, True, first.bundle.digest)
    assert champion_bundle(workspace, "t") == first.bundle.digest
    assert champion_version(workspace.mlflow_uri, "t") == "1"
    with pytest.raises(Refused, match="the first one"):
        roll_back(workspace, params, None, "again")

    assert withdrawn(workspace, "t", second.bundle.digest) == "drops cubes"
    with open_context(workspace, params, "test") as context:
        second.context = context
        decided, released = second.promote(champion=first.bundle.digest)
    assert decided.verdict == "promote"
    assert released is not None
    assert released.release is None
    assert "drops cubes" in released.pending
    assert "posa rollback --to 2 --reason TEXT" in released.pending
    assert shown(workspace) == (1, True, first.bundle.digest)

    assert roll_back(workspace, params, 2, "it was the gripper").release == 2
    assert shown(workspace) == (2, True, second.bundle.digest)
    assert withdrawn(workspace, "t", second.bundle.digest) is None
    kinds = [entry.kind for entry in promotion_log(workspace, "t").entries()]
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


def test_a_refresh_before_the_first_release_makes_neither_keys_nor_a_channel(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    assert not refresh_channel(workspace)
    assert not Path(workspace.channel).exists()
    assert not workspace.keys.exists()


def test_reconcile_goes_on_where_something_cannot_be_looked_at(tmp_path: Path) -> None:
    workspace, params, _ = two_releases(tmp_path)
    set_champion(workspace.mlflow_uri, "t", "1")
    flip(Path(workspace.channel) / "metadata" / "1.root.json")
    findings = reconcile_workspace(workspace, params)
    assert {finding.what for finding in findings if not finding.sound} == {"release of t", "release channel"}
    assert champion_version(workspace.mlflow_uri, "t") == "2"


def test_a_bundle_that_was_damaged_while_its_release_waited_is_found_before_the_log_names_it(tmp_path: Path) -> None:
    params, workspace, approver = arm_params(), make_workspace(tmp_path), CryptoSigner.generate_ed25519()
    asks = overlaid(params, {"targets": {"t": {"approvals": 1, "approvers": {"a": public_hex(approver)}}}}, "test")
    with open_context(workspace, asks, "test") as context:
        waiting = candidate(context, params, tmp_path / "policy")
        waiting.promote()
        (record,) = workspace.promotions.rglob("*.dsse.json")
        record.write_bytes(approve_record(record.read_bytes(), approver))
        flip(workspace.bundles / waiting.bundle.digest / "model.safetensors")
        before = promotion_log(workspace, "t").entries()
        with pytest.raises(PosaError, match=r"restore .* from a backup"):
            waiting.promote()
    assert promotion_log(workspace, "t").entries() == before


@pytest.mark.long
def test_a_workspace_without_its_keys_begins_anew_as_the_page_says_and_robots_take_it_with_the_new_trust(
    tmp_path: Path,
) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        made.promote()
        (workspace.keys / "publisher.pem").unlink()
        with pytest.raises(BadInput, match=r"has lost publisher\.pem"):
            roll_back(workspace, params, None, "drops cubes")
        (tmp_path / ".posa").symlink_to(workspace.home)
        page = Path(__file__).parents[2] / "docs" / "security.md"
        (command,) = re.findall(r"^    (for folder .*)$", page.read_text(), re.MULTILINE)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        _, released = made.promote()
    assert released is not None
    assert (released.release, champion_bundle(workspace, "t")) == (1, made.bundle.digest)
    home = tmp_path / "robot"
    root, trust = read_trust(workspace.promotions / "t" / "trust")
    provision(home, root, trust)
    update = Agent(home, ChannelClient(workspace.channel, tuf_state(home), root), trust).update()
    assert (update.status, update.release) == ("installed", 1), update.reason
