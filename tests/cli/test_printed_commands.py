"""Commands that messages of promotion, rollback, robot and doctor print, carried out as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from factories import make_embodiment
from released import TARGET, asking, copied, die, killed, release_one, shows, unreleased
from releases import Channel
from robot.agents import load, load_broken, load_instead
from typer.testing import CliRunner, Result
from untrained import arm_params

from posa_vla.cli.doctor.releases import look_at_releases
from posa_vla.cli.main import application
from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import write_json
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.pipeline.rollback import roll_back
from posa_vla.promotion.champion import open_publisher, promotion_log
from posa_vla.promotion.log import PromotionLog
from posa_vla.promotion.registry import champion_version, set_champion
from posa_vla.release import publisher as publishing
from posa_vla.release.channel import ChannelClient
from posa_vla.release.keys import create_key, load_key, public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.trust import write_trust
from posa_vla.workspace import Workspace

PARAMS = arm_params()


@pytest.fixture
def workspace(three_releases: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return here(copied(three_releases, tmp_path), PARAMS, monkeypatch)


def here(workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Makes the workspace the one of this process, whose current folder has its parameters."""
    monkeypatch.setenv("POSA_HOME", str(workspace.home))
    monkeypatch.chdir(workspace.home.parent)
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    return workspace


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `posa` command in a message: in backticks, or up to the end of a line."""
    for span in re.findall(r"`(posa [^`]+)`", text) or re.findall(r"(posa \S.*)$", text, re.MULTILINE):
        yield shlex.split(span)[1:]


def typed(words: list[str], **placeholders: str) -> Result:
    """Runs a command as a person types it, with what the placeholders stand for."""
    words = [placeholders.get(word, word) for word in words]
    return CliRunner().invoke(application(words[0]), words)


def table(result: Result) -> str:
    """A printed table in one line."""
    return " ".join(result.output.replace("│", " ").split())


def test_approve_as_a_waiting_rollback_prints_it_also_for_who_became_an_approver_since(
    three_releases: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [tmp_path / "ada.pem", tmp_path / "bob's key.pem"]
    for key in keys:
        made = typed(next(commands("`posa approve --new-key FILE`")), FILE=str(key))
        assert public_hex(load_key(key)) in table(made)
    (ada, bob), place = (load_key(key) for key in keys), unreleased(three_releases, tmp_path)
    params = asking(tmp_path, ada)
    for number in (1, 2):
        release_one(place, params, number, (ada,))
    here(place, asking(tmp_path, ada, bob), monkeypatch)
    again = ["rollback", "--reason", "drops cubes", "--json"]
    waiting = typed(again)
    assert waiting.exit_code == 0, waiting.output
    for number, key in enumerate(keys, start=1):
        (command,) = commands(yaml.safe_load(typed(again).stdout)["pending"])
        assert command[0] == "approve"
        done = typed([*command, "--yes"], FILE=str(key))
        assert done.exit_code == 0, done.output
        assert ("1 more needed" if number == 1 else "run the same `posa rollback` again") in table(done)
    assert shows(place) == [2, 2]
    assert yaml.safe_load(typed(again).stdout)["release"] == 1
    assert shows(place) == [1, 1]


@pytest.mark.fault
@pytest.mark.parametrize(
    "stage", ["in the log", pytest.param("decided", marks=pytest.mark.long), "at the alias", "a promotion in the log"]
)
def test_the_command_by_which_doctor_says_that_a_release_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    assert look_at_releases(workspace).status == "sound"
    owner, name = {
        "decided": (PromotionLog, "append"),
        "at the alias": (publishing.Publisher, "settle"),
    }.get(stage, (Publisher, "publish"))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        if stage == "at the alias":
            set_champion(workspace.mlflow_uri, TARGET, "1")  # as somebody does on MLflow's page
        elif stage == "a promotion in the log":
            killed(lambda: release_one(workspace, PARAMS, 4))
        else:
            killed(lambda: roll_back(workspace, PARAMS, None, "it's loose"))
    before = {path: path.stat().st_mtime_ns for path in workspace.promotions.rglob("*")}
    finding = look_at_releases(workspace)
    assert finding.status == "unsound"
    assert {path: path.stat().st_mtime_ns for path in workspace.promotions.rglob("*")} == before, "it only looks"
    done = typed(next(commands(finding.detail)))
    assert done.exit_code == 0, done.output
    wanted = {"at the alias": 3, "a promotion in the log": 4}.get(stage, 2)
    assert shows(workspace) == [wanted, wanted]
    assert champion_version(workspace.mlflow_uri, TARGET) == str(wanted)
    assert look_at_releases(workspace).status == "sound"
    if wanted == 2:
        assert promotion_log(workspace, TARGET).entries()[-1].reasons == ["it's loose"]


def test_rollback_as_it_says_that_no_release_is_left(workspace: Workspace) -> None:
    for number in (2, 1, 3):
        roll_back(workspace, PARAMS, number, "drops cubes")
    with pytest.raises(Refused, match="no release left") as refused:
        roll_back(workspace, PARAMS, None, "drops cubes")
    assert refused.value.exit_code == 1
    to_run_again, to_hold = commands(str(refused.value))
    assert to_hold == ["robot", "run"], "the command that a person ends"
    done = typed(to_run_again, N="1", TEXT="it was the gripper")
    assert done.exit_code == 0, done.output
    assert shows(workspace) == [1, 1]


@pytest.mark.long
def test_rm_as_a_rollback_prints_it_whose_record_was_damaged_while_it_waited(
    three_releases: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = create_key(tmp_path / "person.pem")
    params, place = asking(tmp_path, person), unreleased(three_releases, tmp_path)
    for number in (1, 2):
        release_one(place, params, number, (person,))
    here(place, params, monkeypatch)
    again = ["rollback", "--reason", "drops cubes", "--json"]
    assert typed(again).exit_code == 0
    (record,) = place.promotions.rglob("rollbacks/*.dsse.json")
    record.write_bytes(record.read_bytes()[:-40])
    refused = str(typed(again).exception)
    assert "Nothing was changed" in refused
    subprocess.run(shlex.split(re.findall(r"`(rm .*?)`", refused)[0]), check=True)
    assert "posa approve" in yaml.safe_load(typed(again).stdout)["pending"]


@pytest.mark.fault
def test_rollback_as_a_release_says_it_whose_bundle_is_damaged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = workspace.bundles / promotion_log(workspace, TARGET).releases()[1].bundle
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", die)
        killed(lambda: roll_back(workspace, PARAMS, None, "drops cubes"))
    (bundle / "config.json").write_text("{}")
    for path in (Path(workspace.channel) / "targets" / TARGET / "bundles" / bundle.name).glob("*config.json"):
        path.write_text("{}")
    other = {"target": "other", "targets": {"other": PARAMS.chosen.model_dump(mode="json")}}
    here(workspace, overlaid(PARAMS, other, "test"), monkeypatch)  # printed commands say whose release it is
    refused = typed(["promote", "--refresh"])
    assert isinstance(refused.exception, PosaError)
    (command,) = commands(str(refused.exception))
    done = typed(command, N="3", TEXT="the other is damaged")
    assert done.exit_code == 0, done.output
    assert shows(workspace) == [3, 3]


def test_rm_as_a_damaged_decision_prints_it(workspace: Workspace) -> None:
    (workspace.promotions / TARGET / "rollback.json").write_bytes(b"{")
    refused = str(typed(["rollback", "--reason", "drops cubes"]).exception)
    subprocess.run(shlex.split(re.findall(r"`(rm .*?)`", refused)[0]), check=True)
    done = typed(next(commands(refused)), N="1", TEXT="drops cubes")
    assert done.exit_code == 0, done.output
    assert shows(workspace) == [1, 1]


@pytest.mark.fault
def test_a_damaged_log_hides_no_other_targets_command(workspace: Workspace) -> None:
    (workspace.promotions / "another").mkdir()
    (workspace.promotions / "another" / "log.jsonl").write_bytes(b"{}\n")
    set_champion(workspace.mlflow_uri, TARGET, "1")
    finding = look_at_releases(workspace)
    assert "another: promotion log" in finding.detail
    done = typed(next(commands(finding.detail)))
    assert isinstance(done.exception, PosaError), "that of the other is still there"
    assert champion_version(workspace.mlflow_uri, TARGET) == "3"


def test_chmod_as_an_open_key_folder_and_an_open_key_print_it(workspace: Workspace) -> None:
    for path in (workspace.keys, workspace.keys / "publisher.pem"):
        path.chmod(0o755)
        with pytest.raises(BadInput) as refused:
            open_publisher(workspace)
        (command,) = re.findall(r"(chmod [67]00 .*?)(?:,|$)", str(refused.value))
        subprocess.run(shlex.split(command), check=True)
        open_publisher(workspace)


def test_refresh_as_a_robot_prints_it_whose_channel_expired(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = open_publisher(workspace).root_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_now", lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(days=40))
        release_one(workspace, PARAMS, 4)
    with pytest.raises(Refused, match="has expired") as refused:
        ChannelClient(workspace.channel, tmp_path / "tuf", root).latest(TARGET)
    shown = open_publisher(workspace).current(TARGET)
    (command,) = commands(str(refused.value))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("POSA_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert isinstance(typed(command).exception, PosaError), "the registry is away, and that is said"
    assert ChannelClient(workspace.channel, tmp_path / "tuf", root).latest(TARGET) == shown, "robots have it"
    done = typed(command)
    assert done.exit_code == 0, done.output
    assert ChannelClient(workspace.channel, tmp_path / "tuf", root).latest(TARGET) == shown


def test_provision_as_a_changed_trust_prints_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person = public_hex(create_key(tmp_path / "person.pem"))
    changed = overlaid(PARAMS, {"targets": {TARGET: {"approvers": {"ada": person}}}}, "test")
    flags = ["--target", TARGET, "--channel", workspace.channel, "--embodiment", "sim_arm6"]
    assert typed(["robot", "init", *flags]).exit_code == 0
    roll_back(workspace, changed, None, "drops cubes")
    (command,) = commands(" ".join(capsys.readouterr().err.split()))
    done = typed(command, FILE="robot.yaml")
    assert done.exit_code == 0, done.output
    assert person in Path("robot/trust/trust.json").read_text()


@pytest.mark.long
def test_retry_as_a_robot_prints_it_that_gave_a_release_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(tmp_path, str(tmp_path / "channel"))
    channel.publish(1)
    write_trust(tmp_path / "trust", channel.publisher.root_bytes(), channel.trust)
    monkeypatch.chdir(tmp_path)
    write_json(Path("arm.yaml"), make_embodiment().model_dump(mode="json"))  # JSON is YAML
    flags = ["--target", channel.trust.target, "--channel", "channel", "--embodiment", "arm.yaml"]
    assert typed(["robot", "init", *flags, "--driver", "dry-run", "--episodes", "0"]).exit_code == 0
    provisioned = typed(["robot", "provision", "--trust", "trust"])
    following = [*next(commands(provisioned.stderr)), "--once"]
    load_instead(monkeypatch, load_broken)
    for _ in range(4):
        said = typed(following)
    load_instead(monkeypatch, load)
    (command,) = commands(re.findall(r"have it tried again: (.*)", said.stderr)[0])
    done = typed([*command, "--once", "--json"])
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout)["update"] == "installed"
