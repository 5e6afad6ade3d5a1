"""`posa` as a person starts it: a process of its own, on a workspace in a test's folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "POSA_HOME": str(home), "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "posa_vla.cli.main", *arguments]


def posa(home: Path, *arguments: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        command(*arguments, "--json"), env=environment(home), cwd=home.parent, capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def kill_when(reached: Callable[[], bool], home: Path, *arguments: str, seconds: float = 240) -> None:
    """Starts a command, and kills it and all that it started as soon as it has come so far."""
    with (home.parent / "log").open("ab") as out:
        process = subprocess.Popen(
            command(*arguments),
            env=environment(home),
            cwd=home.parent,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + seconds
    try:
        while not reached():
            assert process.poll() is None, "the command ended before it was killed"
            assert time.monotonic() < deadline, "the step to kill was not reached"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
