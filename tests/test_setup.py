"""infra/setup.sh on machines that lack something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "cat", "cut", "dirname", "grep", "id", "sha256sum", "uname", "rm", "env")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A bare copy of what set-up reads, and a PATH with nothing but basic tools."""
    folder = tmp_path / "checkout"
    (folder / "infra").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", "infra/setup.sh"):
        shutil.copy(ROOT / name, folder / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    return folder


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(checkout.parent / "bin"), "HOME": os.environ.get("HOME", "/")}
    bash = shutil.which("bash") or "bash"
    return subprocess.run([bash, "infra/setup.sh"], cwd=checkout, env=env, capture_output=True, text=True)


def test_no_git_is_said_first(checkout: Path) -> None:
    done = set_up(checkout)
    assert done.returncode == 2
    assert "apt-get install git" in done.stderr


@pytest.mark.parametrize("version", ["3.10.4", "3.13.0"])
def test_an_unsupported_python_names_the_command_that_brings_one(checkout: Path, version: str) -> None:
    tools = checkout.parent / "bin"
    script(tools / "git", "exit 0")
    # What a real interpreter of that version answers to "are you supported?", and to --version.
    script(tools / "python3", f'[ "$1" = --version ] && echo "Python {version}" && exit 0; exit 1')
    done = set_up(checkout)
    assert done.returncode == 2
    assert version in done.stderr
    assert "apt-get install python3.11" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_shim_that_fails_is_passed_over(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    script(tools / "git", "exit 0")
    script(tools / "python3.11", 'echo "pyenv: python3.11: command not found" >&2; exit 127')
    script(
        tools / "python3.12", 'case "$*" in *ensurepip*) exit 1;; *version_info\\[:2\\]\\)*) echo 3.12;; esac; exit 0'
    )
    done = set_up(checkout)
    assert done.returncode == 2
    assert "python3.12-venv" in done.stderr


def test_a_second_set_up_does_nothing(checkout: Path) -> None:
    tools = checkout.parent / "bin"
    script(tools / "git", "exit 0")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    script(checkout / ".venv" / "bin" / "posa", "exit 0")
    inputs = b"".join((checkout / n).read_bytes() for n in ("requirements.lock", "pyproject.toml", "infra/setup.sh"))
    import hashlib

    (checkout / ".venv" / ".posa-setup").write_text(hashlib.sha256(inputs).hexdigest() + "\n")
    done = set_up(checkout)
    assert done.returncode == 0
    assert done.stderr == ""
    (checkout / "requirements.lock").write_text("changed\n")
    assert set_up(checkout).returncode == 2
