"""`posa init DIR --dataset PATH`: what it writes and says, that what it prints can be run, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_words import wrong_command
from lerobot_datasets import edit_info, make_v21

from posa_vla.cli.main import main
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.params_file import load_params
from posa_vla.pipeline.target import require_target
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

Posa = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def posa(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Posa:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSA_HOME", raising=False)

    def run(*arguments: str) -> tuple[int, Any, str]:
        # Standard output is reserved once a process, and captured anew for each test.
        monkeypatch.setattr("posa_vla.console._reserved", None)
        monkeypatch.delenv("POSA_HOME", raising=False)
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--json"])
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), json.loads(out) if out else {}, " ".join(err.split())

    return run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_v21(tmp_path_factory.mktemp("recordings") / "tidy", video=False)


@pytest.mark.slow
def test_recordings_become_a_workspace_in_which_a_retraining_can_begin(
    posa: Posa, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, made, said = posa("init", "robot", "--dataset", str(dataset))
    assert code == 0, said
    folder = tmp_path / "robot"
    assert (made["folder"], made["params"]) == (str(folder), str(folder / "params.yaml"))
    assert made["target"] == "test_arm"
    assert load_embodiment(made["declaration"]).id == "test_arm"
    assert made["ingestion"]["accepted"] == 3
    assert made["samples_per_second"] > 0
    assert f"{made['samples_per_second']:.0f} samples/s" in made["training"]
    assert made["next"] == "cd robot && posa retrain"
    monkeypatch.chdir(folder)
    params = load_params(Path("params.yaml"))
    assert params.chosen.evidence == ["offline", "robot"]
    assert params.chosen.task == "2 tasks"
    chosen = {choice["key"]: choice["value"] for choice in made["choices"]}
    assert params.prepare.image_size == chosen["prepare.image_size"] == 32
    assert params.model.horizon == chosen["model.horizon"]
    text = Path("params.yaml").read_text()
    assert all(choice["reason"] in text for choice in made["choices"])
    # What was prepared is what the parameters ask for, with something held out: nothing has to be made again.
    manifest = read_manifest(Path(made["ingestion"]["folder"]))
    assert manifest.image_size == 32
    assert {name: split.episodes for name, split in manifest.splits.items()} == {"train": 2, "validation": 1}
    require_target(Workspace.open(Settings(home=folder / ".posa")), params)
    missing = " ".join(f"{each['what']} {each['needed_for']}" for each in made["missing"])
    for what in ("units of 8 of 8", "limits of 8 of 8", "kinematics", "calibration of head", "held out is one episode"):
        assert what in missing, what
    commands = re.findall(r"`posa ([^`]+)`", " ".join(each["how"] for each in made["missing"]))
    assert len(commands) >= 5
    assert [wrong for words in commands if (wrong := wrong_command(shlex.split(words)))] == []
    # Those that need nothing besides are run as they stand.
    code, again, said = posa(*shlex.split(next(words for words in commands if words.startswith("data ingest /"))))
    assert (code, again["new"], again["data_version"]) == (0, 0, made["ingestion"]["data_version"]), said
    code, key, said = posa("approve", "--new-key", "key.pem")
    assert code == 0, said
    setting = f"targets.test_arm.approvers={{ada: {key['public']}}}"
    assert load_params(Path("params.yaml"), settings=[setting]).chosen.approvers
    code, _, said = posa(*shlex.split(next(words for words in commands if words.startswith("data calibrate"))))
    assert code == 2
    assert "declares no `kinematics`" in said
    # A second start would overwrite what somebody may have completed.
    monkeypatch.chdir(tmp_path)
    code, _, said = posa("init", "robot", "--dataset", str(dataset))
    assert (code, "exists already" in said) == (2, True)


@pytest.mark.slow
def test_a_shipped_arm_is_declared_with_its_limits_and_chain(
    posa: Posa, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, said = posa("init", "robot", "--dataset", str(dataset), "--arm", "so101")
    assert code == 2
    assert "the dataset's state is j0, j1, j2, j3, expected among them" in said
    assert not (tmp_path / "robot").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder, expected a LeRobot dataset"),
        (lambda folder: shutil.rmtree(folder / "data"), "no episode of"),
        (lambda folder: edit_info(folder, fps=0), "fps is 0, expected frames per second"),
        (lambda folder: edit_info(folder, codebase_version="v9.9"), "expected v2.0, v2.1 or v3.0"),
    ],
)
def test_what_is_no_dataset_is_said_once_and_leaves_nothing_behind(
    posa: Posa, dataset: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(dataset, tmp_path / "broken")
    change(folder)
    code, answer, said = posa("init", "robot", "--dataset", str(folder))
    assert (code, message in said) == (2, True), said
    assert answer["error"]["exit_code"] == 2
    assert not (tmp_path / "robot").exists()


def test_what_concerns_a_dataset_needs_one(posa: Posa, tmp_path: Path) -> None:
    code, _, said = posa("init", "robot", "--arm", "so101")
    assert (code, "name it with --dataset PATH" in said) == (2, True)
    code, made, _ = posa("init", "robot")
    assert (code, made["params"]) == (0, str(tmp_path / "robot" / "params.yaml"))
