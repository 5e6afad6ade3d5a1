"""The `posa` command from outside: exit codes, messages, what it prints where, what it imports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from posa_vla.cli.main import COMMANDS
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[2]
Here = Callable[..., subprocess.CompletedProcess[str]]


def posa(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "POSA_HOME": str(home), **variables}
    command = [sys.executable, "-m", "posa_vla.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=home.parent, timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path / "home"


@pytest.fixture
def train(home: Path, posa_here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """`posa train`, which reads parameters as all commands do, before it looks at anything else."""
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("POSA_HOME", str(home))
    return lambda *arguments: posa_here("train", "--data", "none", "--out", "out", *arguments)


def test_unknown_key_in_the_parameters_names_the_closest_one(home: Path) -> None:
    params = home.parent / "params.yaml"
    params.write_text(params.read_text() + "colect: {episodes: 3}\n")
    done = posa("retrain", home=home)
    assert done.returncode == 2
    assert "did you mean 'collect'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


def test_missing_parameters_name_the_way_to_get_them(home: Path, train: Here) -> None:
    (home.parent / "params.yaml").unlink()
    done = train()
    assert done.returncode == 2
    assert "posa init" in done.stderr


def test_misspelt_command_exits_2(home: Path) -> None:
    assert posa("retrian", home=home).returncode == 2


def test_json_stays_the_only_thing_on_standard_output_when_a_command_fails(train: Here) -> None:
    done = train("--json", "--preset", "dmo")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == 2
    assert "demo" in error["message"]


def test_usage_errors_are_one_json_document_too(train: Here) -> None:
    done = train("--presett", "x", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert "--presett" in done.stderr


def test_a_folder_instead_of_the_parameters_is_bad_input(home: Path, train: Here) -> None:
    done = train("--json", "--params", str(home.parent))
    assert done.returncode == 2, done.stderr
    assert "cannot be read" in json.loads(done.stdout)["error"]["message"]


def test_an_approver_without_a_key_is_found_before_the_work_starts(train: Here) -> None:
    done = train("--set", "targets.sim-pick.approvers.ada=nothex")
    assert done.returncode == 2
    assert "ada" in done.stderr
    assert "64 hex digits" in done.stderr


def test_pictures_that_would_be_blown_up_are_found_before_the_work_starts(home: Path) -> None:
    done = posa("retrain", "--set", "collect.image_size=32", home=home)
    assert done.returncode == 2, done.stderr
    assert "prepare.image_size is 64 and collect.image_size 32" in " ".join(done.stderr.split())
    assert "Set collect.image_size=64" in " ".join(done.stderr.split())


def test_a_held_workspace_says_by_whom(home: Path) -> None:
    with Workspace(home, Workspace.open().settings).lock("the other run"):
        done = posa("retrain", "--preset", "tiny", home=home)
    assert done.returncode == 75
    assert f"the other run, process {os.getpid()}" in done.stderr


def test_no_git_is_found_before_the_work_starts(home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    small = ("--set", "collect.image_size=32", "--set", "prepare.image_size=32")  # pictures that are not blown up
    done = posa("retrain", "--preset", "tiny", *small, home=home, PATH=str(empty))
    assert done.returncode == 2
    assert "git is not installed" in done.stderr
    assert "apt-get install git" in done.stderr
    assert not (home / "episodes").exists()


def test_no_room_is_found_before_the_work_starts(home: Path) -> None:
    done = posa("retrain", "--set", "collect.episodes=2000000000", home=home)
    assert done.returncode == 2
    assert "are free" in done.stderr
    assert not (home / "episodes").exists()


def test_no_gl_library_names_the_packages(home: Path) -> None:
    broken = "import ctypes\ndef refuse(name, *a, **k): raise OSError(name)\nctypes.CDLL = refuse\n"
    program = f"{broken}from posa_vla.cli.main import main\nmain(['retrain', '--preset', 'tiny'])"
    command = [sys.executable, "-c", program]
    clean = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=home.parent, env={**clean, "POSA_HOME": str(home)}
    )
    assert done.returncode == 2, done.stderr
    assert "libegl1" in done.stderr


def test_a_port_in_use_is_named_with_its_flag(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = posa("ui", "--mlflow-port", str(port), home=home)
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "--mlflow-port" in done.stderr


def test_init_makes_a_workspace_once(tmp_path: Path, posa_here: Here) -> None:
    done = posa_here("init", str(tmp_path / "mine"), "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["params"]).read_text() == (ROOT / "params.yaml").read_text()
    assert posa_here("init", str(tmp_path / "mine")).returncode == 2


def test_doctor_says_that_an_empty_workspace_is_sound(home: Path) -> None:
    done = posa("doctor", "--json", home=home)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert {finding["name"] for finding in report["findings"]} >= {"python", "GL", "git", "ledger", "promotion log"}


def test_doctor_finds_a_damaged_ledger(home: Path, posa_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    record = home / "ledger" / "train" / ("0" * 64 + ".json")
    record.parent.mkdir(parents=True)
    record.write_text('{"step": "train", "inputs": {}}')
    monkeypatch.setenv("POSA_HOME", str(home))
    done = posa_here("doctor", "--json")
    assert done.returncode == 1
    findings = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    assert findings["ledger"]["status"] == "unsound"
    assert str(record) in findings["ledger"]["detail"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_imports_no_heavy_package(name: str) -> None:
    program = (
        "import sys\nfrom posa_vla.cli.main import application\n"
        f"application({name!r})\n"
        "heavy = {'torch', 'ray', 'mlflow', 'prefect', 'dvc', 'mujoco', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_overview_lists_every_command_and_imports_none_of_them() -> None:
    program = (
        "import sys\nfrom posa_vla.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit as done:\n"
        "    assert done.code == 0\n"
        "print(*sorted({module.split('.')[0] for module in sys.modules}), file=sys.stderr)\n"
        "print(*sorted(m for m in sys.modules if m.startswith('posa_vla.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    packages, own = (set(line.split()) for line in done.stderr.splitlines())
    slow = {
        "torch",
        "numpy",
        "pydantic",
        "pydantic_settings",
        "yaml",
        "ray",
        "mlflow",
        "prefect",
        "dvc",
        "mujoco",
        "boto3",
    }
    assert not slow & packages
    light = ("posa_vla.cli", "posa_vla.cli.main", "posa_vla.cli.terminal", "posa_vla.console", "posa_vla.errors")
    assert own <= set(light)
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in done.stdout.splitlines()), done.stdout
