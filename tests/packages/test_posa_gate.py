"""The distribution posa-gate: complete without posa-vla, and installable with four packages."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "packages/posa-gate"
ROWS = "seed,success\n" + "".join(f"{n},{{}}\n" for n in range(30))
# What comes with NumPy, SciPy, pydantic and typer stays; our package and what the base install has besides does not.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"posa_vla", "torch", "yaml", "pydantic_settings", "boto3", "tuf", "PIL", "pyarrow"}:
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
from posa_gate.cli.gate.alone import main
main()
"""


def rows(folder: Path) -> None:
    (folder / "good.csv").write_text(ROWS.format(*[1] * 30))
    (folder / "bad.csv").write_text(ROWS.format(*[0, 0, 1] * 10))


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """hatch_build.py, without hatchling, which only builds have."""
    name = "hatchling.builders.hooks.plugin.interface"
    for part in range(1, 6):
        monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:part]), types.ModuleType(name))
    monkeypatch.setattr(sys.modules[name], "BuildHookInterface", object, raising=False)
    spec = importlib.util.spec_from_file_location("posa_gate_build", PROJECT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_copied_package_judges_without_posa_vla(hook: types.ModuleType, tmp_path: Path) -> None:
    package = hook.write_package(tmp_path)
    assert not any("posa_vla" in path.read_text() for path in package.rglob("*.py"))
    assert (package / "evidence/betting.py").read_text() == (ROOT / "posa_vla/evidence/betting.py").read_text()
    rows(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "judge", "good.csv", "bad.csv", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "promote"


@pytest.mark.long
@pytest.mark.slow
def test_it_installs_in_a_clean_environment_and_refuses_bad_rows_in_words(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(PROJECT)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("posa_gate-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(wheel)], check=True, cwd=tmp_path)
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"posa-gate", "numpy", "scipy", "pydantic", "typer"} <= names
    assert not names & {"posa-vla", "torch", "matplotlib", "pyyaml"}
    rows(tmp_path)
    program = str(tmp_path / "venv/bin/posa-gate")
    done = subprocess.run(
        [program, "judge", "good.csv", "bad.csv", "--out", "verdict", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "promote"
    assert (tmp_path / "verdict/verdict.html").is_file()
    (tmp_path / "bad.csv").write_text("seed,success\n1,\n")
    done = subprocess.run([program, "judge", "good.csv", "bad.csv"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "line 2: no outcome" in done.stderr
    assert "Traceback" not in done.stderr
