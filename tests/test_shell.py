"""What is taken over from the shell; infra/machines shows what it does to the commands."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from posa_vla.settings import Settings
from posa_vla.shell import enter, environment, taken_over

ROOT = Path(__file__).parents[1]


def test_the_page_lists_what_is_taken_over_for_a_server() -> None:
    settings = Settings(
        prefect_api_url="https://api.prefect.cloud/api", mlflow_tracking_uri="http://m", ray_address="http://r"
    )
    section = (ROOT / "docs" / "servers.md").read_text().split("## What is taken over from your shell")[1]
    rows = section.split("| all others that begin")[0]
    assert sorted(re.findall(r"`((?:PREFECT|MLFLOW|RAY)_\w+)`", rows)) == sorted(taken_over(settings))
    never = section.split("| all others that begin")[1].split("\n\n")[0]
    shell = dict.fromkeys(re.findall(r"`([A-Z_]+)`[^|]*\| never", never) + re.findall(r"`(PYTHON\w+)`", never), "x")
    assert len(shell) > 6
    kept = environment(Settings(), {f"{name}X" if name.endswith("_") else name: value for name, value in shell.items()})
    assert "x" not in kept.values()


def test_without_servers_nothing_of_theirs_is_taken_over_and_the_rest_of_the_shell_is() -> None:
    assert taken_over(Settings()) == ()
    shell = {"PATH": "/bin", "AWS_ACCESS_KEY_ID": "k", "MUJOCO_GL": "egl", "RAY_ADDRESS": "auto", "git_dir": "/x"}
    found = environment(Settings(), shell)
    assert {name: value for name, value in shell.items() if name in found} == {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": "k",
        "MUJOCO_GL": "egl",
    }


def test_it_is_the_same_when_a_child_takes_it_over_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, prefect_api_url="http://p/api")
    once = environment(settings, {"HTTP_PROXY": "http://proxy", "PREFECT_API_AUTH_STRING": "a:b", "NO_PROXY": "x"})
    assert environment(settings, once) == once


def test_a_process_drops_what_it_does_not_take_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shell = {"PATH": os.environ["PATH"], "PREFECT_API_URL": "http://theirs/api"}
    monkeypatch.setattr(os, "environ", dict(shell))
    enter(Settings(home=tmp_path))
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
    enter(Settings(home=tmp_path, prefect_api_url="http://ours/api"))
    assert os.environ["PREFECT_API_URL"] == "http://ours/api"


def test_only_commands_drop_variables() -> None:
    """A flow run keeps what Prefect's worker gave it, and a job of Ray what its node has: neither is a command."""
    product = [*(ROOT / "posa_vla").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    callers = {path.relative_to(ROOT).as_posix() for path in product if "shell import enter" in path.read_text()}
    assert callers == {"posa_vla/cli/main.py", "posa_vla/cli/options.py"}
