"""Whether a policy may have been trained on what it is judged by, through all that it was started from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from on_record import record_training, record_version, write_findings

from posa_vla.dataset.versions.record import DataVersion
from posa_vla.pipeline.records import Trained
from posa_vla.pipeline.steps.lineage import may_know, version_of
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def data(name: str, episodes: int) -> DataVersion:
    return DataVersion(
        version=name * 64,
        name=name,
        folder=name,
        episodes=episodes,
        frames=9,
        commit="c" * 40,
        prepared=f"{name}-files",
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path / "home"))


def trained(workspace: Workspace, bundle: str, on: DataVersion, start: str | None = None) -> None:
    record_training(workspace, Trained(data=on, key=f"key of {bundle}", seconds=1.0, start=start), bundle)


def test_what_was_trained_on_the_same_data_from_scratch_knows_none_of_what_they_hold_out(workspace: Workspace) -> None:
    one = data("1", 12)
    record_version(workspace, one)
    trained(workspace, "a", one)
    trained(workspace, "b", one, start="a")
    assert not may_know(workspace, "a", one.version)
    assert not may_know(workspace, "b", one.version)


@pytest.mark.parametrize(
    ("before", "after", "fraction", "knows"),
    [(39, 60, 0.05, True), (30, 35, 0.05, True), (40, 60, 0.05, False), (40, 60, 0.2, True), (60, 40, 0.05, False)],
)
def test_of_few_episodes_or_of_a_share_that_grew_sides_may_have_changed(
    workspace: Workspace, before: int, after: int, fraction: float, knows: bool
) -> None:
    old, new = data("1", before), data("2", after)
    record_version(workspace, old)
    record_version(workspace, new, fraction)
    trained(workspace, "a", old)
    trained(workspace, "b", new, start="a")
    assert may_know(workspace, "b", new.version) is knows
    # As far back as it goes.
    trained(workspace, "c", new, start="b")
    assert may_know(workspace, "c", new.version) is knows


def test_what_is_not_on_record_or_goes_in_a_circle_may_know_anything(workspace: Workspace) -> None:
    one, other = data("1", 50), data("2", 50)
    record_version(workspace, one)
    assert may_know(workspace, "from elsewhere", one.version)
    trained(workspace, "a", one, start="from elsewhere")
    assert may_know(workspace, "a", one.version)
    trained(workspace, "x", one, start="y")
    trained(workspace, "y", one, start="x")
    assert may_know(workspace, "x", one.version)
    trained(workspace, "b", other)
    assert may_know(workspace, "b", one.version), "nothing says how its data were split"


def test_what_was_put_aside_as_a_copy_of_a_held_out_episode_was_trained_on_before(workspace: Workspace) -> None:
    old, new = data("1", 50), data("2", 60)
    for version in (old, new):
        record_version(workspace, version)
    trained(workspace, "a", old)
    trained(workspace, "b", new, start="a")
    assert not may_know(workspace, "b", new.version)
    write_findings(workspace, new, "scene-leakage")
    assert may_know(workspace, "b", new.version)
    assert not may_know(workspace, "a", old.version)
    shutil.rmtree(workspace.reports / new.version)
    assert may_know(workspace, "b", new.version), "nobody knows what was put aside"


def test_prepared_data_are_known_by_their_files(workspace: Workspace) -> None:
    record_version(workspace, data("1", 50))
    assert version_of(workspace, "1-files") == "1" * 64
    assert version_of(workspace, "2-files") is None
