"""A workspace that was moved: everything in it is found relative to it, and nothing comes back at its old place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from the_past import MADE_AT, set_clock, unpack_workspace

from posa_vla.artifact_places import database_file, follow_move, places_elsewhere
from posa_vla.cli.doctor.command import LOOKS
from posa_vla.errors import BadInput
from posa_vla.promotion.champion import champion_bundle, settle
from posa_vla.promotion.registry import CHAMPION
from posa_vla.release.publisher import Publisher
from posa_vla.run_page import Source
from posa_vla.settings import Settings
from posa_vla.tracking import connect, open_run
from posa_vla.workspace import Workspace

TARGET = "sim-pick"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(Settings(home=unpack_workspace(tmp_path)))


def test_the_registered_model_of_a_moved_workspace_loads(workspace: Workspace) -> None:
    import mlflow

    client = connect(workspace.mlflow_uri)
    version = client.get_model_version_by_alias(TARGET, CHAMPION)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{TARGET}/{version.version}"))
    assert folder.is_relative_to(workspace.home)
    assert mlflow.pyfunc.load_model(f"models:/{TARGET}/{version.version}").metadata.signature is not None
    run = client.get_run(version.run_id)
    assert client.list_artifacts(version.run_id, "records")
    assert MADE_AT not in str(run.inputs)


def test_what_a_moved_workspace_logs_lies_in_it(workspace: Workspace) -> None:
    with open_run(workspace.mlflow_uri, TARGET, "a key", Source("a run", "a test")) as run:
        run.log_text("words", "records/words.txt")
    assert list((workspace.home / "mlflow" / "artifacts").rglob("words.txt"))
    database = database_file(workspace.mlflow_uri)
    assert database is not None
    assert places_elsewhere(database) == []
    assert follow_move(database) == []
    assert not Path(MADE_AT).exists()


def test_moved_twice_and_with_characters_that_urls_escape(workspace: Workspace, tmp_path: Path) -> None:
    connect(workspace.mlflow_uri)
    place = tmp_path / "über here %20"
    os.rename(workspace.home, place)
    client = connect(Workspace.open(Settings(home=place)).mlflow_uri)
    version = client.get_model_version_by_alias(TARGET, CHAMPION)
    assert client.list_artifacts(version.run_id, "records")


def test_artifacts_that_still_lie_at_the_old_place_are_not_lost(workspace: Workspace, tmp_path: Path) -> None:
    connect(workspace.mlflow_uri)
    moved = tmp_path / "moved"
    shutil.copytree(workspace.home, moved)
    shutil.rmtree(moved / "mlflow" / "artifacts")
    there = Workspace.open(Settings(home=moved))
    connect(there.mlflow_uri)
    finding = dict(LOOKS)["MLflow's files"](there)
    assert finding.status == "unsound"
    assert str(workspace.home / "mlflow" / "artifacts") in finding.detail
    shutil.copytree(workspace.home / "mlflow" / "artifacts", moved / "mlflow" / "artifacts")
    finding = dict(LOOKS)["MLflow's files"](there)
    assert finding.status == "sound"


def test_keys_name_places_in_the_workspace_relative_to_it(tmp_path: Path) -> None:
    here, there = (Workspace.open(Settings(home=tmp_path / name)) for name in ("here", "there"))
    for place in ("channel", "dvc_remote", "mlflow_uri"):
        assert here.named(getattr(here, place)) == there.named(getattr(there, place))
    assert here.named("s3://bucket/channel") == "s3://bucket/channel"
    assert here.named(f"{there.home}/channel") == f"{there.home}/channel"


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    place = tmp_path / "mlflow.db"
    place.write_bytes(b"no database" * 100)
    with pytest.raises(BadInput, match=r"mlflow\.db: file is not a database; see"):
        connect(f"sqlite:///{place}")


def test_the_publisher_remembers_the_channel_of_a_moved_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch)
    assert champion_bundle(workspace, TARGET) is not None
    assert settle(workspace, TARGET) is False
    # Whoever can write to the channel alone takes it back to the time before its first release.
    Publisher(workspace.channel, workspace.keys)
    timestamp = Path(workspace.channel) / "metadata" / "timestamp.json"
    timestamp.unlink()
    assert settle(workspace, TARGET) is True
    assert timestamp.is_file()
