"""A rollback is decided once: killed anywhere, it goes to the same release; what it needs is looked at first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from released import TARGET, asking, copied, die, everything, killed, release_one, shows, unreleased
from releases import flip
from securesystemslib.signer import CryptoSigner
from untrained import arm_params

from posa_vla.cli.doctor.releases import look_at_releases
from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import write_bytes
from posa_vla.params_file import overlaid
from posa_vla.pipeline import rollback as procedure
from posa_vla.pipeline.reconciliation import continue_releases
from posa_vla.pipeline.rollback import roll_back
from posa_vla.promotion import registry
from posa_vla.promotion.champion import champion_bundle, open_publisher, promotion_log, settle
from posa_vla.promotion.log import PromotionLog
from posa_vla.promotion.open_rollback import open_rollback, write_open
from posa_vla.promotion.registry import champion_version
from posa_vla.release import publisher as publishing
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import approve_record
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.fault
PARAMS = arm_params()


@pytest.fixture
def workspace(three_releases: Workspace, tmp_path: Path) -> Workspace:
    return copied(three_releases, tmp_path)


def after(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, after which the process dies."""

    def wrapped(*arguments: Any, **options: Any) -> None:
        function(*arguments, **options)
        die()

    return wrapped


def cut_off(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Workspace,
    owner: Any,
    name: str,
    instead: Callable[..., Any],
    to: int | None = None,
) -> None:
    """A rollback in a process that dies where it calls `owner.name`."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, instead)
        killed(lambda: roll_back(workspace, PARAMS, to, "drops cubes"))


STAGES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "before it is decided": (procedure, "write_open", die),
    "decided": (procedure, "write_open", after(write_open)),
    "signed": (procedure, "write_bytes", after(write_bytes)),
    "in the log": (PromotionLog, "append", after(PromotionLog.append)),
    "half on the channel": (publishing, "_copy", die),
    "on the channel": (Publisher, "publish", after(Publisher.publish)),
    "the alias set": (registry, "set_champion", after(registry.set_champion)),
    "before it is closed": (procedure, "close_rollback", die),
}


SHORT = {"decided", "in the log", "on the channel"}


@pytest.mark.parametrize(
    "stage", [stage if stage in SHORT else pytest.param(stage, marks=pytest.mark.long) for stage in STAGES]
)
def test_killed_at_any_stage_the_same_command_goes_to_the_same_release(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    owner, name, instead = STAGES[stage]
    cut_off(monkeypatch, workspace, owner, name, instead)
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2
    assert shows(workspace) == [2, 2]
    assert champion_version(workspace.mlflow_uri, TARGET) == "2"
    assert [entry.kind for entry in promotion_log(workspace, TARGET).entries()] == ["promote"] * 3 + ["rollback"]
    assert open_rollback(workspace, TARGET) is None
    assert roll_back(workspace, PARAMS, None, "so does this one").release == 1, "the first is finished: another one"


def test_what_it_is_for_stays_decided_whatever_the_second_command_says(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch, workspace, PromotionLog, "append", die, to=1)
    assert roll_back(workspace, PARAMS, None, "again").release == 1, "not 2, which it would choose by itself"
    assert promotion_log(workspace, TARGET).entries()[-1].reasons == ["drops cubes"]


@pytest.mark.long
def test_another_release_than_the_open_one_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch, workspace, Publisher, "publish", die)
    assert roll_back(workspace, PARAMS, 1, "drops more cubes").release == 1
    assert shows(workspace) == [1, 1]


def test_a_rollback_that_a_promotion_overtook_asks_which_release_shall_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch, workspace, PromotionLog, "append", die)
    release_one(workspace, PARAMS, 4)
    before = everything(workspace.home)
    with pytest.raises(Refused, match=r"from release 3 to release 2 .* release 4 runs by now.* Nothing was changed"):
        roll_back(workspace, PARAMS, None, "drops cubes")
    assert everything(workspace.home) == before
    assert roll_back(workspace, PARAMS, 4, "it is good").release == 4
    assert shows(workspace) == [4, 4]
    assert open_rollback(workspace, TARGET) is None
    assert roll_back(workspace, PARAMS, None, "it is not").release == 3


def test_the_registry_is_away_and_the_robots_have_the_release(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Workspace.open(Settings(home=workspace.home, mlflow_tracking_uri="http://127.0.0.1:9"))
    for _ in range(2):
        with pytest.raises(PosaError, match=r"release 2 is on the channel.*Run the same command again"):
            roll_back(away, PARAMS, None, "drops cubes")
        assert shows(workspace) == [2, 2]
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2
    assert champion_version(workspace.mlflow_uri, TARGET) == "2"


def test_a_version_that_was_deleted_by_hand_hinders_no_rollback(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    connect(workspace.mlflow_uri).delete_model_version(TARGET, "2")
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2
    assert "version 2 of model 't' was deleted" in capsys.readouterr().err
    assert shows(workspace) == [2, 2]
    assert champion_version(workspace.mlflow_uri, TARGET) is None, "it would show a version that was rolled back from"
    assert roll_back(workspace, PARAMS, None, "so does this one").release == 1


def test_a_version_that_was_registered_again_is_what_the_alias_shows(workspace: Workspace) -> None:
    client, bundle = connect(workspace.mlflow_uri), promotion_log(workspace, TARGET).releases()[1].bundle
    client.delete_model_version(TARGET, "2")
    again = str(client.create_model_version(TARGET, "again", tags={registry.BUNDLE: bundle}).version)
    roll_back(workspace, PARAMS, None, "drops cubes")
    assert champion_version(workspace.mlflow_uri, TARGET) == again
    assert look_at_releases(workspace).status == "sound"


def test_without_a_number_no_withdrawn_release_comes_back_and_where_none_is_left_robots_hold(
    workspace: Workspace,
) -> None:
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2
    release_one(workspace, PARAMS, 4)
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2, "3 was withdrawn"
    assert roll_back(workspace, PARAMS, 3, "it was the gripper").release == 3
    assert roll_back(workspace, PARAMS, None, "it was not").release == 1, "2 was withdrawn for 3"
    assert roll_back(workspace, PARAMS, 4, "the arm is mended").release == 4
    before = everything(workspace.home)
    with pytest.raises(Refused, match=r"no release left .*\(1, 2, 3\).*rollback --to N.*hold, end `posa robot run`"):
        roll_back(workspace, PARAMS, None, "drops cubes")
    assert everything(workspace.home) == before


@pytest.mark.parametrize("damage", ["flipped", pytest.param("gone", marks=pytest.mark.long)])
def test_a_bundle_that_is_damaged_here_comes_from_the_channel(workspace: Workspace, damage: str) -> None:
    bundle = workspace.bundles / next(e.bundle for e in promotion_log(workspace, TARGET).releases() if e.release == 2)
    flip(bundle / "model.safetensors") if damage == "flipped" else shutil.rmtree(bundle)
    assert roll_back(workspace, PARAMS, None, "drops cubes").release == 2
    assert shows(workspace) == [2, 2]
    assert not [path for path in workspace.bundles.iterdir() if path.name.startswith(".")]


def test_the_same_rollback_twice_within_a_second_is_two_rollbacks(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([*["2026-11-24T03:00:00Z"] * 3, *["2026-11-24T03:00:01Z"] * 3])
    monkeypatch.setattr("posa_vla.promotion.drafting._now", lambda: next(seconds))
    for number in (1, 3, 1):
        assert roll_back(workspace, PARAMS, number, "to and fro").release == number
        assert shows(workspace) == [number, number]


def spoil(workspace: Workspace, release: int) -> None:
    """Damages a release's bundle wherever it lies."""
    digest = next(e.bundle for e in promotion_log(workspace, TARGET).releases() if e.release == release)
    flip(workspace.bundles / digest / "model.safetensors")
    for path in (Path(workspace.channel) / "targets" / TARGET / "bundles" / digest).glob("*.model.safetensors"):
        flip(path)


def test_a_bundle_that_is_damaged_everywhere_is_found_before_anything_changes(workspace: Workspace) -> None:
    spoil(workspace, 2)
    before = everything(workspace.home)
    with pytest.raises(Refused, match=r"release 2 cannot run again: .*restore .*from a backup.*Nothing was changed"):
        roll_back(workspace, PARAMS, None, "drops cubes")
    assert everything(workspace.home) == before
    assert not settle(workspace, TARGET), "nothing is left to be done, so that nothing else is refused"
    assert roll_back(workspace, PARAMS, 1, "drops cubes").release == 1


def test_a_bundle_that_is_damaged_after_the_log_named_it_keeps_no_other_release_away(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch, workspace, Publisher, "publish", die)
    spoil(workspace, 2)
    with pytest.raises(Refused, match="Nothing was changed"):
        roll_back(workspace, PARAMS, None, "drops cubes")
    with pytest.raises(PosaError, match="posa rollback --to N"):
        settle(workspace, TARGET)
    assert roll_back(workspace, PARAMS, 1, "drops cubes").release == 1
    assert shows(workspace) == [1, 1]
    assert not settle(workspace, TARGET)


@pytest.mark.parametrize("what", ["its record", "its evidence"])
def test_what_else_it_needs_is_looked_at_first(workspace: Workspace, what: str) -> None:
    params = PARAMS
    if what == "its record":
        next((workspace.promotions / TARGET / "records").glob("*2.dsse.json")).unlink()
    else:  # a record of version 2 says what evidence alone knows
        params = overlaid(PARAMS, {"targets": {TARGET: {"record": 2}}}, "test")
    before = everything(workspace.home)
    with pytest.raises(PosaError):
        roll_back(workspace, params, None, "drops cubes")
    assert everything(workspace.home) == before


def test_a_promotion_that_was_cut_off_and_an_open_rollback_are_finished_from_the_log(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch, workspace, Publisher, "publish", die)
    assert shows(workspace) == [2, 3]
    assert [finding.done for finding in continue_releases(workspace)] == [
        "published what the log names",
        "set to version 2, as the log has it",
    ]
    assert (shows(workspace), open_rollback(workspace, TARGET)) == ([2, 2], None)
    monkeypatch.setattr(PromotionLog, "append", after(PromotionLog.append))
    killed(lambda: release_one(workspace, PARAMS, 4))
    monkeypatch.undo()
    assert shows(workspace) == [4, 2]
    continue_releases(workspace)
    assert shows(workspace) == [4, 4]
    assert champion_version(workspace.mlflow_uri, TARGET) == "4"


def test_a_robot_that_exists_gets_nothing_without_an_approval(three_releases: Workspace, tmp_path: Path) -> None:
    approver = CryptoSigner.generate_ed25519()
    params, workspace = asking(tmp_path, approver), unreleased(three_releases, tmp_path)
    for number in (1, 2):
        release_one(workspace, params, number, (approver,))
    before = everything(workspace.home)
    careless = overlaid(params, {"targets": {TARGET: {"approvals": 0}}}, "test")
    with pytest.raises(BadInput, match="at least one approval"):
        roll_back(workspace, careless, None, "drops cubes")
    assert everything(workspace.home) == before

    assert roll_back(workspace, params, None, "drops cubes").pending
    assert shows(workspace) == [2, 2]
    opened = open_rollback(workspace, TARGET)
    assert opened is not None
    path = opened.record_file(workspace)
    write_bytes(path, approve_record(path.read_bytes(), approver))
    assert roll_back(workspace, params, None, "drops cubes").release == 1
    assert shows(workspace) == [1, 1]
    assert champion_bundle(workspace, TARGET) == promotion_log(workspace, TARGET).releases()[0].bundle
    assert open_publisher(workspace).current(TARGET) == path.read_bytes()
