"""A workspace of an earlier commit goes through this code to a second release that its robot takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from candidates import candidate
from the_past import set_clock, unpack_workspace
from typer.testing import CliRunner
from untrained import arm_params

from posa_vla.cli import robot as robot_commands
from posa_vla.cli.doctor.command import LOOKS
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.rollback import roll_back
from posa_vla.pipeline.steps.robot import robot_home, run_on_robot
from posa_vla.promotion.champion import champion_bundle, promotion_log, settle
from posa_vla.release.channel import ChannelClient
from posa_vla.robot.agent.agent import Agent
from posa_vla.robot.agent.provision import trust_of, tuf_state
from posa_vla.robot.agent.slots import Slots
from posa_vla.robot.agent.status import robot_status
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace

TARGET = "sim-pick"


def in_this_process(workspace: Workspace, arguments: list[str]) -> bytes:
    """`posa robot`, whose process would read today's clock."""
    done = CliRunner().invoke(robot_commands.app, [*arguments[1:], "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.encode()


def kept(home: Path) -> dict[str, bytes]:
    """What an upgrade must leave as it is."""
    folders = ("promotions", "evidence", "keys", "bundles", "ledger", "episodes")
    paths = [path for name in folders for path in (home / name).rglob("*") if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("record", [pytest.param(1, marks=pytest.mark.long), 2])
def test_an_earlier_workspace_goes_on_to_a_release_that_its_robot_takes_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: int
) -> None:
    set_clock(monkeypatch)
    monkeypatch.setattr("posa_vla.pipeline.steps.robot._posa", in_this_process)
    workspace = Workspace.open(Settings(home=unpack_workspace(tmp_path)))
    before = kept(workspace.home)
    home = robot_home(workspace, TARGET)
    slots, log = Slots(home), promotion_log(workspace, TARGET)
    first, running, entries = champion_bundle(workspace, TARGET), slots.running, log.entries()
    assert running is not None
    assert (running.release, running.bundle_digest) == (1, first)
    assert settle(workspace, TARGET) is False

    target = {"embodiment": "sim_arm6", "task": "pick", "approvals": 0, "record": record}
    params = arm_params(target=TARGET, targets={TARGET: target}, robot={"episodes": 1})
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        _, released = made.promote(champion=first)
        assert released is not None
        assert released.release == 2
        report = run_on_robot(context, released).report
    assert (report.release, report.episodes) == (2, 1)

    held = slots.state
    assert sorted(slot.release for slot in held.slots.values()) == [1, 2]
    assert slots.running is not None
    assert slots.running.bundle_digest == made.bundle.digest
    status = robot_status(home, trust_of(home)[1])
    assert all(slot["damage"] is None for slot in status["slots"].values())
    assert log.entries()[: len(entries)] == entries
    assert {entry.release for entry in log.entries()} == {1, 2}
    after = kept(workspace.home)
    changed = {name for name, data in before.items() if after.get(name) != data}
    assert changed <= {f"promotions/{TARGET}/log.jsonl", f"promotions/{TARGET}/trust/trust.json"}
    place = str(workspace.home).encode()
    assert not [name for name, data in after.items() if place in data], "what names its place is lost by a move"
    versions = connect(workspace.mlflow_uri).search_model_versions(f"name = '{TARGET}'")
    assert sorted(version.tags["posa.bundle"] for version in versions) == sorted([str(first), made.bundle.digest])

    rolled = roll_back(workspace, params, None, "the second one was worse")
    assert (rolled.release, rolled.bundle) == (1, first)
    root, trust = trust_of(home)
    update = Agent(home, ChannelClient(workspace.channel, tuf_state(home), root), trust).update()
    assert (update.status, update.release) == ("installed", 1), update.reason

    looks = dict(LOOKS)
    for name in ("workspace", "ledger", "bundles", "promotion log", "records", "MLflow's files"):
        finding = looks[name](workspace)
        assert finding.status == "sound", finding
