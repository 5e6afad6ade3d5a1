"""Which robot a dataset is of: what names none is a robot of its own, and the same one however often it comes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data_workspaces import data_params
from lerobot_datasets import edit_info, make_v21, make_v30
from taking_in import take_in

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.validation.report import Quarantined
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.foreign.mapping import map_features, robot_id
from posa_vla.episodes.foreign.robots import robot_of
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.pipeline.ingestion import Dataset, Ingestion, ingest_dataset
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path / "home"))


def ingested(workspace: Workspace, folder: Path, embodiment: str = "") -> Ingestion:
    """Taken in, all held out: no data version is made."""
    dataset = Dataset(str(folder), workspace.home.parent, embodiment=embodiment)
    return ingest_dataset(workspace, data_params(validation_fraction=0.999), dataset)


def called(folder: Path, name: str | None) -> str:
    edit_info(folder, robot_type=name)
    source = open_source(folder)
    return robot_of(source, map_features(source, {}, None).parts)


NO_NAMES = ["Unknown ", None, "n/a", "机械臂", "42"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_two_datasets_that_name_no_robot_are_of_two(tmp_path, name):
    one, two = (make_v21(tmp_path / place / "dataset", video=False, seed=seed) for place, seed in (("a", 0), ("b", 70)))
    ids = [called(one, name), called(two, name)]
    assert len(set(ids)) == 2
    # The same one, wherever it lies, whichever version it has and however it goes on.
    copy = shutil.copytree(one, tmp_path / "c" / "other name")
    assert [called(copy, name), called(make_v30(tmp_path / "v30"), name)] == [ids[0], ids[0]]
    (copy / "data/chunk-000/episode_000002.parquet").unlink()
    (copy / "meta/episodes.jsonl").unlink()
    assert called(copy, name) == ids[0]


@pytest.mark.parametrize(
    ("one", "other"), [("机械臂 v2", "夹爪 v2"), ("Ärm", "Örm"), ("arm" * 30 + "1", "arm" * 30 + "2")]
)
def test_names_that_an_id_cannot_hold_are_told_apart_and_stay_the_same(tmp_path, one, other):
    first, second = make_v21(tmp_path / "one", video=False), make_v21(tmp_path / "two", video=False, seed=70)
    assert called(first, one) != called(first, other)
    assert called(first, one) == called(second, one)


def test_a_robots_name_is_its_id(tmp_path):
    first, second = make_v21(tmp_path / "one", video=False), make_v21(tmp_path / "two", video=False, seed=70)
    assert {called(first, "So-100 Follower"), called(second, "so-100 follower")} == {"so-100_follower"}


def test_a_robot_that_is_called_like_another_file_of_the_workspace_comes_in(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    edit_info(folder, robot_type="params")
    (tmp_path / "params.yaml").write_text("target: t\n")
    assert ingested(workspace, folder).embodiment == "params_robot"


def test_robots_without_a_name_stay_two_in_the_store_until_somebody_names_them(tmp_path, workspace):
    one, two = make_v21(tmp_path / "one", video=False), make_v21(tmp_path / "two", video=False, seed=70)
    for folder in (one, two):
        edit_info(folder, robot_type="unknown")
    first, second = ingested(workspace, one), ingested(workspace, two)
    assert (first.new, second.new, len({first.embodiment, second.embodiment})) == (3, 3, 2)
    for done in (first, second):
        (finding,) = [f for f in done.findings if f.rule == "metadata"]
        assert f"names none: it was taken for a robot of its own, {done.embodiment}" in finding.value
        assert Path(done.declaration).name == f"{done.embodiment}.yaml"
    again = ingested(workspace, one)
    assert (again.new, again.embodiment, again.batches) == (0, first.embodiment, first.batches)
    # A file that names a robot makes them one.
    file = tmp_path / "arm.yaml"
    file.write_text(Path(first.declaration).read_text().replace(first.embodiment, "our_arm"))
    assert load_embodiment(str(file)).id == "our_arm"
    named = [ingested(workspace, folder, embodiment=str(file)) for folder in (one, two)]
    assert [(done.embodiment, done.new) for done in named] == [("our_arm", 3)] * 2
    assert not [f for done in named for f in done.findings if f.rule == "metadata"]


@pytest.mark.parametrize("name", ["unknown", None])
def test_a_store_that_knows_the_recording_under_the_plain_name_keeps_it(tmp_path, workspace, name):
    folder = make_v21(tmp_path / "one", video=False)
    edit_info(folder, robot_type=name)
    before = take_in(EpisodeStore(workspace.store), folder)  # as it was taken in before robots were told apart
    again = ingested(workspace, folder)
    assert (again.new, again.embodiment, again.batches) == (0, robot_id(open_source(folder)), before.batches)
    # Another dataset without a name is not that robot, all the same.
    other = make_v21(tmp_path / "other" / "one", video=False, seed=70)
    edit_info(other, robot_type=name)
    assert ingested(workspace, other).embodiment != again.embodiment


def test_an_export_of_a_robot_without_a_name_comes_back_as_the_same_episodes(tmp_path, workspace):
    folder = make_v21(tmp_path / "one", video=False)
    edit_info(folder, robot_type="unknown")
    done = ingested(workspace, folder)
    store = EpisodeStore(workspace.store)
    report = validate(store.root)
    # Without the first episode, which decided the id.
    report.quarantined.append(Quarantined(batch=done.batches[0], episode=0))
    assert export(store, report, tmp_path / "exported")["episodes"] == 2
    edit_info(tmp_path / "exported", robot_type=None)
    again = ingested(workspace, tmp_path / "exported")
    assert (again.new, again.embodiment) == (0, done.embodiment)
