"""`posa` as a person starts it: a process of its own, on a workspace in a test's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "POSA_HOME": str(home), "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "posa_vla.cli.main", *arguments]


def posa(home: Path, *arguments: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        command(*arguments, "--json"), env=environment(home), cwd=home.parent, capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the retraining ended before it was killed"
        assert time.monotonic() < deadline, "the step to kill was not reached"
        time.sleep(0.05)
