"""`posa` without a process of its own, which costs seconds: what a command says, and the code that it exits with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from posa_vla.cli.main import main


@pytest.fixture
def posa_here(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `posa` with these arguments in this process and its working directory."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # Standard output is reserved once a process, and captured anew for each test.
        monkeypatch.setattr("posa_vla.console._reserved", None)
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(stop.value.code or 0), out, err)

    return run
