"""infra/setup.sh on machines that lack something, and what the scripts beside it add to its default."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from posa_vla import interpreter

ROOT = Path(__file__).parents[1]
TOOLS = (
    "awk", "bash", "cat", "chmod", "cut", "dirname", "env", "grep", "id", "ln", "mkdir", "mktemp", "mv", "rm", "sed",
    "sha256sum", "tail", "tee", "timeout", "touch", "uname",
)  # fmt: skip
COPIED = ("requirements.lock", "pyproject.toml", "infra/setup.sh", "infra/dependencies.py")

# A Python of a supported version whose `-m venv` makes an environment that installs nothing and writes down, in
# `installed`, what it was asked for: a line of "uv" or "pip" and the requirements. Only dependencies.py runs for real.
# FAILS names what cannot be installed: "uv" (the package), or "uv-run" (uv is there, and fails).
PYTHON = """
case "$*" in
  *version_info\\[:2\\]\\)*) echo 3.11 ;;
  "-m venv "*)
    mkdir -p .venv/bin
    ln -s "$0" .venv/bin/python
    cat >.venv/bin/pip <<'PIP'
#!/bin/sh
case "$*" in *" uv=="*) [ "$FAILS" = uv ] && { echo "no wheel of uv for this machine"; exit 1; }; exit 0 ;; esac
echo "pip $*" >>installed
case "$*" in *"-e ."*) touch .venv/bin/posa; chmod +x .venv/bin/posa ;; esac
PIP
    chmod +x .venv/bin/pip ;;
  "infra/uv_install.py "*)
    [ "$FAILS" = uv-run ] && { echo "uv has no counterpart"; exit 3; }
    echo "uv $*" >>installed
    case "$*" in *"-e ."*) touch .venv/bin/posa; chmod +x .venv/bin/posa ;; esac ;;
  infra/dependencies.py*) exec "$REAL_PYTHON" "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A bare copy of what set-up reads, and a PATH with nothing but basic tools."""
    folder = tmp_path / "checkout"
    (folder / "infra").mkdir(parents=True)
    for name in COPIED:
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


@pytest.fixture
def machine(checkout: Path) -> Path:
    """The same copy on a machine that has git and Python, and the scripts that check it."""
    tools = checkout.parent / "bin"
    script(tools / "git", "exit 0")
    script(tools / "python3.11", PYTHON)
    for name in ("lint.sh", "secrets.sh", "audit.sh", "wheel_check.sh"):
        shutil.copy(ROOT / "infra" / name, checkout / "infra" / name)
    return checkout


def run(checkout: Path, name: str, *arguments: str, fails: str = "") -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": str(checkout.parent / "bin"),
        "HOME": os.environ.get("HOME", "/"),
        "FAILS": fails,
        "REAL_PYTHON": sys.executable,
    }
    bash = shutil.which("bash") or "bash"
    command = [bash, f"infra/{name}", *arguments]
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    return run(checkout, "setup.sh")


def asked(checkout: Path) -> list[set[str]]:
    """Names of packages of each installation, and what installed them."""
    lines = (checkout / "installed").read_text().splitlines()
    return [{re.split(r"[\[<>=]", word)[0] for word in line.split()} for line in lines]


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
    (checkout / ".venv" / ".posa-setup").write_text(hashlib.sha256(inputs).hexdigest() + "\n")
    done = set_up(checkout)
    assert done.returncode == 0
    assert done.stderr == ""
    (checkout / "requirements.lock").write_text("changed\n")
    assert set_up(checkout).returncode == 2


def installed_at(place: Path, environment: Path) -> None:
    """What an installation at `place` leaves in `environment` that names the folder, in Python's and in sh's way."""
    python = f"{place}/.venv/bin/python"
    packages = environment / "lib" / "python3.11" / "site-packages"
    (environment / "bin").mkdir(parents=True)
    (packages / "posa_vla-0.1.0.dist-info").mkdir(parents=True)
    for name in ("posa", "pytest"):
        (environment / "bin" / name).write_text(f"#!{python}\nimport sys\n")
        (environment / "bin" / name).chmod(0o755)
    (environment / "bin" / "long").write_text(f"#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n")
    (environment / "bin" / "data").write_bytes(b"\0" + python.encode())
    (environment / "bin" / "other").write_text(f"#!{place}-2/.venv/bin/python\n")
    (environment / "pyvenv.cfg").write_text(f"command = /usr/bin/python3.11 -m venv {place}/.venv\n")
    (packages / "_editable_impl_posa_vla.pth").write_text(f"{place}\n")
    (packages / "posa_vla-0.1.0.dist-info" / "direct_url.json").write_text(f'{{"url":"file://{place}"}}')


def done_before(checkout: Path) -> None:
    inputs = b"".join((checkout / n).read_bytes() for n in ("requirements.lock", "pyproject.toml", "infra/setup.sh"))
    (checkout / ".venv" / ".posa-setup").write_text(hashlib.sha256(inputs).hexdigest() + "\n")


def test_a_checkout_that_was_copied_or_moved_runs_its_own_code_after_set_up(machine: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    installed_at(first, machine / ".venv")
    done_before(machine)
    shared = tmp_path / "shared"
    shared.hardlink_to(machine / ".venv" / "bin" / "posa")
    done = set_up(machine)
    assert done.returncode == 0, done.stderr
    assert f"copied or moved from {first}" in done.stderr
    expected = tmp_path / "expected"
    installed_at(machine, expected)
    for name in ("bin/posa", "bin/pytest", "bin/long", "pyvenv.cfg", "lib/python3.11/site-packages"):
        for path in [expected / name] if (expected / name).is_file() else (expected / name).rglob("*.*[a-z]"):
            if path.is_file():
                made = machine / ".venv" / path.relative_to(expected)
                assert made.read_text() == path.read_text()
    assert os.access(machine / ".venv" / "bin" / "posa", os.X_OK)
    assert (machine / ".venv" / "bin" / "data").read_bytes() == b"\0" + f"{first}/.venv/bin/python".encode()
    assert (machine / ".venv" / "bin" / "other").read_text() == f"#!{first}-2/.venv/bin/python\n"
    assert str(first) in shared.read_text(), "the first checkout's own file was changed"
    assert set_up(machine).stderr == ""


def test_a_link_to_the_checkout_is_no_other_checkout(machine: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(machine)
    installed_at(link, machine / ".venv")
    done_before(machine)
    assert set_up(machine).stderr == ""


def test_the_environment_of_another_checkout_is_left_alone(machine: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    installed_at(first, first / ".venv")
    (machine / ".venv").symlink_to(first / ".venv")
    done = set_up(machine)
    assert done.returncode == 2
    assert f"a link to that of {first}" in done.stderr
    assert str(first) in (first / ".venv" / "bin" / "posa").read_text()


def test_a_copy_whose_path_no_script_can_name_is_set_up_anew(machine: Path, tmp_path: Path) -> None:
    installed_at(tmp_path / "first one", machine / ".venv")
    (machine / ".venv" / "bin" / "posa").write_text(
        f"#!/bin/sh\n'''exec' \"{tmp_path}/first one/.venv/bin/python\" \"$0\" \"$@\"\n' '''\n"
    )
    done_before(machine)
    done = set_up(machine)
    assert done.returncode == 0, done.stderr
    assert "first one" in done.stderr
    assert (machine / "installed").is_file()


def test_make_hands_on_nothing_of_the_shell_that_is_for_other_programs(tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make is not None
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + "\nshow:\n\t@env\n")
    theirs = dict.fromkeys((*interpreter._OF_PYTHON, "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "GIT_DIR"), "theirs")
    done = subprocess.run([make, "-C", str(tmp_path), "show"], env=os.environ | theirs, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PATH=" in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.partition("=")[0] in theirs]


def test_set_up_drops_what_changes_python_as_posa_does() -> None:
    dropped = re.findall(r"^unset (.*)$", (ROOT / "infra" / "setup.sh").read_text(), re.MULTILINE)
    assert dropped == [" ".join(interpreter._OF_PYTHON)]


def test_the_default_is_what_the_demo_and_the_tests_need(machine: Path) -> None:
    done = set_up(machine)
    assert done.returncode == 0, done.stderr
    packages, itself = asked(machine)
    assert {"uv", "-c", "requirements.lock", "torch", "ray", "mujoco", "pytest", "moto"} <= packages
    assert not packages & {"mypy", "ruff", "detect-secrets", "pip-audit", "build", "playwright"}
    assert {"-e", "."} <= itself


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("lint.sh", {"mypy", "ruff", "detect-secrets"}),
        ("secrets.sh", {"detect-secrets"}),
        ("audit.sh", {"pip-audit"}),
        ("wheel_check.sh", {"build"}),
    ],
)
def test_a_script_installs_what_it_needs_once(machine: Path, name: str, packages: set[str]) -> None:
    run(machine, name)
    _, _, added = asked(machine)
    assert {"uv", "-c", "requirements.lock", *packages} <= added
    assert not added & {"torch", "playwright"}
    run(machine, name)
    assert len(asked(machine)) == 3


def test_a_changed_lock_brings_the_extras_up_to_date_when_they_are_needed(machine: Path) -> None:
    run(machine, "setup.sh", "browser")
    (machine / "requirements.lock").write_text("# changed\n" + (machine / "requirements.lock").read_text())
    assert set_up(machine).returncode == 0
    assert "playwright" not in asked(machine)[3]
    run(machine, "setup.sh", "browser")
    assert "playwright" in asked(machine)[5]


def test_an_unknown_extra_is_refused_before_anything_is_installed(machine: Path) -> None:
    done = run(machine, "setup.sh", "lnit")
    assert done.returncode == 2
    assert "lnit" in done.stderr
    assert "lint, tools or browser" in done.stderr
    assert not (machine / ".venv").exists()


@pytest.mark.parametrize(("fails", "said"), [("uv", "uv could not be installed"), ("uv-run", "uv could not install")])
def test_pip_installs_the_same_where_uv_cannot(machine: Path, fails: str, said: str) -> None:
    done = run(machine, "setup.sh", "lint", fails=fails)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert ".venv/setup.log" in done.stderr
    packages, itself, added = asked(machine)
    assert {"pip", "-c", "requirements.lock", "torch", "pytest"} <= packages
    assert {"pip", "-e"} <= itself
    assert {"pip", "mypy"} <= added
    assert run(machine, "setup.sh", "lint", fails=fails).stderr == ""


def test_the_makefile_brings_the_browser_where_pages_are_opened() -> None:
    make = (ROOT / "Makefile").read_text()
    for target in ("test-long", "stack-test"):
        recipe = make.split(f"\n{target}:")[1].split("\n\n")[0]
        assert "infra/setup.sh browser" in recipe
