"""What an ingestion proposes is run as it is printed, and what it leaves beside the action it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_workspaces import data_params
from lerobot_datasets import CAMERA, add_column, edit_info, make_v21

from posa_vla.cli.main import main
from posa_vla.episodes.foreign.mapping import parse_map
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.pipeline.ingestion import Dataset, Ingestion, ingest_dataset
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def ingested(place: Path, folder: Path, *mapping: str) -> Ingestion:
    """Taken into a new workspace, all held out: no data version is made."""
    dataset = Dataset(str(folder), place, mapping=parse_map(list(mapping)))
    workspace = Workspace.open(Settings(home=place / "home"))
    return ingest_dataset(workspace, data_params(validation_fraction=0.999), dataset)


def beside(done: Ingestion) -> list[str]:
    return [finding.value for finding in done.findings if "is kept beside" in finding.value]


def test_a_gripper_beside_the_action_is_said_with_how_it_becomes_a_part(tmp_path):
    folder = make_v21(tmp_path / "one", video=False)
    for name in ("action.gripper_position", "action.gripper_velocity", "observation.gripper_position"):
        add_column(folder, name, [0.5], "float32")
    said = beside(ingested(tmp_path / "first", folder))
    assert [value.split(" is kept beside the ")[0] for value in said] == [
        "observation.gripper_position",
        "action.gripper_position",
    ]
    flags = [shlex.split(value)[-1] for value in said]
    assert flags == ["state=observation.state,observation.gripper_position", "action=action,action.gripper_position"]
    assert not beside(ingested(tmp_path / "fresh", folder, *flags))
    store = EpisodeStore(tmp_path / "fresh/home/episodes")
    assert [(e.state.shape[1], e.action.shape[1]) for e in store.episodes()] == [(5, 5)] * 3


@pytest.mark.slow
def test_what_the_message_proposes_is_run_as_it_is_printed(tmp_path, capfd, monkeypatch):
    folder = make_v21(tmp_path / "data set", cameras=(CAMERA, "observation.images.hand cam"), video=False)
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        names = {"observation.state": "observation.states.joint.position", "action": "actions.joint"}
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    edit_info(folder, features=None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("posa_vla.console._reserved", None)

    held_out = ("--set", "prepare.validation_fraction=0.999")

    def run(flags: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["data", "ingest", "data set", "--workspace", "robots", *held_out, *shlex.split(flags)])
        return int(stop.value.code or 0), capfd.readouterr().err

    code, said = run("")
    flags = re.search(r"If this is what they are, add: (.*)", " ".join(said.split()))
    assert code == 2
    assert flags
    assert run(flags[1])[0] == 0
