"""Which policy a training of a target starts from, and that the same command trains once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from candidates import DATA, two_releases
from command_words import wrong_command
from untrained import arm_params

from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Candidate
from posa_vla.pipeline.reproduction import _run_training as run_training
from posa_vla.pipeline.rollback import roll_back
from posa_vla.pipeline.steps import train as train_step
from posa_vla.pipeline.steps.train import require_starting_bundle, starting_bundle, train, training_inputs
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

Released = tuple[Workspace, list[str]]


def asking(start: str) -> Params:
    return overlaid(arm_params(), {"targets": {"t": {"start_from": start}}}, "test")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A workspace whose second release was rolled back from, and the bundles of both."""
    workspace, params, made = two_releases(tmp_path_factory.mktemp("start"))
    roll_back(workspace, params, None, "drops cubes")
    return workspace, [candidate.bundle.digest for candidate in made]


def test_a_training_starts_from_scratch_the_champion_or_a_named_bundle(released: Released) -> None:
    workspace, (first, second) = released
    assert starting_bundle(workspace, asking("scratch")) is None
    assert starting_bundle(workspace, asking("champion")) == first
    assert starting_bundle(workspace, asking(first[:10])) == first
    with pytest.raises(BadInput, match=r"start_from .*: this policy was rolled back from \(drops cubes\)"):
        starting_bundle(workspace, asking(second[:10]))
    with pytest.raises(BadInput, match="no bundle '00000000'"):
        starting_bundle(workspace, asking("0" * 8))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": {"flow_layers": 5}}, "model.flow_layers: it has"),
        ({"prepare": {"image_size": 96}}, "the image size: it has"),
        ({"prepare": {"sigma_task": 0.2}}, "prepare.sigma_task: it has"),
    ],
)
def test_a_champion_that_cannot_be_trained_on_is_refused_before_anything_is_collected(
    released: Released, other: dict[str, Any], named: str
) -> None:
    workspace, (first, _) = released
    for start in ("champion", first[:10]):
        require_starting_bundle(workspace, asking(start))
        with pytest.raises(BadInput, match=f"cannot be trained on .*{named}"):
            require_starting_bundle(workspace, overlaid(asking(start), other, "test"))
    require_starting_bundle(workspace, overlaid(asking("scratch"), other, "test"))


@pytest.mark.parametrize("start", ["best", "champoin", "abc", "A" * 10])
def test_what_is_no_start_is_named(start: str) -> None:
    with pytest.raises(BadInput, match="expected scratch, champion, or 8 or more first digits"):
        asking(start)


def test_a_target_that_starts_from_scratch_is_written_as_it_always_was() -> None:
    assert "start_from" not in asking("scratch").model_dump()["targets"]["t"]
    assert training_inputs("d", asking("champion")) == training_inputs("d", arm_params())


def test_the_training_is_handed_the_policy_and_the_same_command_trains_once(
    released: Released, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace, (first, second) = released
    handed: list[Any] = []

    class Run:
        def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
            raise AssertionError("nothing is trained here")

    monkeypatch.setattr("posa_vla.training.submit.train_as_job", lambda *given: handed.append(given[-1]))
    monkeypatch.setattr(train_step, "has_tree", lambda *place: True)
    context = StepContext(workspace, asking("champion"))
    monkeypatch.setattr(context, "jobs", lambda: None)
    monkeypatch.setattr(context, "tracked", lambda data: Run())
    trained = train(context, DATA)
    assert (trained.start, handed[-1].digest, handed[-1].folder.name) == (first, first, first)
    # It is sealed, and becomes champion: the same command finds it, and starts from nothing else.
    sealed = {"training": trained.key, "execution": {}, "code": "c"}
    context.ledger.step("bundle", sealed, Candidate, lambda key: Candidate(source=trained, digest=second))
    monkeypatch.setattr(train_step, "champion_bundle", lambda *place: second)
    assert train(context, DATA) == trained
    assert len(handed) == 1
    # Other data are another training, which starts from what is champion by then.
    assert train(context, DATA.model_copy(update={"version": "e" * 64})).start == second


def test_without_a_champion_it_starts_from_scratch_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    monkeypatch.setattr("posa_vla.training.submit.train_as_job", lambda *given: None)
    context = StepContext(workspace, asking("champion"))
    monkeypatch.setattr(context, "jobs", lambda: None)
    monkeypatch.setattr(context, "tracked", lambda data: type("Run", (), {"log_metrics": None}))
    assert train(context, DATA).start is None
    assert "no champion to start from: its training starts from scratch" in capsys.readouterr().err


def test_a_reproduction_starts_from_the_same_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    place = (
        Workspace.open(Settings(home=tmp_path)),
        tmp_path,
        tmp_path / "data",
        tmp_path / "p.yaml",
        tmp_path / "out",
    )
    run_training(*place)
    run_training(*place, tmp_path / "bundle")
    words = [command[command.index("train") :] for command in ran]
    assert "--start-from" not in words[0]
    assert words[1] == [*words[0], "--start-from", str(tmp_path / "bundle")]
    assert wrong_command(words[1]) is None
