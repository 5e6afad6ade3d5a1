"""The choice of an OpenGL library."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest

from posa_vla.errors import BadInput
from posa_vla.sim import gl


@pytest.fixture
def before_mujoco(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    return monkeypatch


def missing(*arguments: Any) -> None:
    raise OSError("cannot open shared object file")


def test_without_a_library_it_says_what_to_install(before_mujoco: pytest.MonkeyPatch) -> None:
    before_mujoco.setattr(ctypes, "CDLL", missing)
    with pytest.raises(BadInput, match="apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"):
        gl.require_gl()
    before_mujoco.setenv("MUJOCO_GL", "egl")
    with pytest.raises(BadInput, match="MUJOCO_GL=egl"):
        gl.require_gl()


def test_osmesa_stands_in_for_egl(before_mujoco: pytest.MonkeyPatch) -> None:
    before_mujoco.setattr(gl, "_egl_works", lambda: False)
    before_mujoco.setattr(gl, "_osmesa_works", lambda: True)
    gl.require_gl()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_the_environment_module_imports_without_mujoco() -> None:
    program = "import sys, posa_vla.sim.environment, posa_vla.sim.collect; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
