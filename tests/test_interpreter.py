"""Which Python code a `posa` process imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from posa_vla.code_root import CODE_ROOT
from posa_vla.interpreter import begin, own_python


class Begun(Exception):
    """The process would have begun anew, with this command and these variables."""


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of this process while `begin` runs, at first one in which there is nothing to mend."""
    variables = {"PATH": os.defpath, "PYTHONPATH": str(CODE_ROOT)}

    def exec_instead(program: str, command: list[str], environment: dict[str, str]) -> NoReturn:
        raise Begun(command, environment)

    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.setattr(os, "execve", exec_instead)
    monkeypatch.setattr(sys, "argv", ["posa", "robot", "run"])
    monkeypatch.setattr(sys, "path", [str(CODE_ROOT), *sys.path])
    return variables


def test_a_process_that_imports_ours_alone_goes_on(shell: dict[str, str]) -> None:
    begin()
    assert shell["PATH"] == os.defpath


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONPATH": "/opt/theirs"},
        {"PYTHONPATH": f"{CODE_ROOT}:/opt/theirs"},
        {"PYTHONPATH": f"{CODE_ROOT}:"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONHOME": "/opt/python"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2"},
    ],
)
def test_it_begins_anew_with_what_its_children_get(shell: dict[str, str], variables: dict[str, str]) -> None:
    shell.update(variables)
    with pytest.raises(Begun) as anew:
        begin()
    command, environment = anew.value.args
    assert command == [sys.executable, "-P", "-m", "posa_vla.cli.start", "robot", "run"]
    assert environment["PYTHONPATH"] == str(CODE_ROOT)
    assert environment["PYTHONSAFEPATH"] == "1"
    assert not {"PYTHONHOME", "PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONOPTIMIZE"} & environment.keys()


def test_it_begins_anew_in_utf_8_where_the_locale_is_another(
    shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(Begun) as anew:
        begin()
    assert anew.value.args[1]["PYTHONUTF8"] == "1"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_robots_driver_finds_packages_of_ros_after_what_is_installed(
    shell: dict[str, str], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    shell["PYTHONPATH"] = "/opt/ros/site-packages"
    with monkeypatch.context() as locale:
        locale.setattr(sys, "getfilesystemencoding", lambda: encoding)
        with pytest.raises(Begun) as anew:
            begin()
    shell.clear()
    shell.update(anew.value.args[1])
    begin()
    assert sys.path[-1] == "/opt/ros/site-packages"
    assert "POSA_DRIVER_PATH" not in shell, "its children need it no more"


def test_no_other_command_looks_there(shell: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["posa", "retrain"])
    shell["POSA_DRIVER_PATH"] = "/opt/ros/site-packages"
    before = list(sys.path)
    begin()
    assert sys.path == before


def test_a_module_of_the_working_folder_stands_in_for_none(tmp_path: Path) -> None:
    for name in ("types", "secrets", "flows"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('another project')")
    command = [sys.executable, "-c", "import secrets, flows; print(flows.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, env=own_python(dict(os.environ)), capture_output=True, text=True)
    assert done.stdout.strip() == str(CODE_ROOT / "flows" / "__init__.py"), done.stderr


@pytest.mark.parametrize("stray", ["secrets.py", "types/__init__.py", "pytest.py"])
def test_a_module_beside_our_code_that_would_stand_in_for_another_is_named(
    shell: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    stray: str,
) -> None:
    (tmp_path / stray).parent.mkdir(exist_ok=True)
    (tmp_path / "analysis.py").touch()
    (tmp_path / "flows.py").touch()
    monkeypatch.setattr("posa_vla.interpreter._ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shell["PYTHONPATH"] = str(tmp_path)
    begin()
    (tmp_path / stray).touch()
    with pytest.raises(SystemExit, match="2"):
        begin()
    assert str(tmp_path / stray).removesuffix("/__init__.py") in capsys.readouterr().err
