"""What a row of the machines' table is: one odd thing that a machine or a shell has, and what must hold there.

A row is a small function in a file `*_rows.py` of this folder:

    @row("a proxy of a company in the shell")
    def proxy(place: Place) -> None:
        place.posa("doctor", shell={"HTTP_PROXY": "http://127.0.0.1:9"}).succeeded()

It gets a fresh folder with a params.yaml. It falls by an AssertionError, whose message says why; where this machine
cannot show it (no root, no such program) it raises `Absent`. `slow=True` is for rows over a few seconds: `make test`
leaves them to `make test-long`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# The smallest retraining that there is.
RETRAIN = ("retrain", "--preset", "tiny", "--set", "train.steps=4", "--set", "collect.episodes=4", "--json")

# Of the shell that runs the table, only this reaches a row; everything else that a row sees, it sets itself.
_KEPT = ("PATH", "HOME", "TERM", "TMPDIR", "LANG", "MUJOCO_GL", "SSL_CERT_FILE", "LD_LIBRARY_PATH")


class Absent(Exception):
    """This machine lacks what the row needs; the message says what."""


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        command: As it was called.
        code: Its exit code.
        out: Standard output.
        err: Standard error.
        seconds: How long it took.
        busy: Seconds of processors that it and what it started took; unlike `seconds`, the same on a busy machine.
    """

    command: str
    code: int
    out: str
    err: str
    seconds: float
    busy: float

    def __str__(self) -> str:
        took = f"{self.seconds:.1f} s ({self.busy:.1f} s busy)"
        return f"`{self.command}` exited {self.code} after {took}\n{self.out[-2000:]}{self.err[-3000:]}"

    @property
    def said(self) -> str:
        """Standard error as one line, however the terminal's width broke it."""
        return " ".join(self.err.split())

    def succeeded(self) -> Done:
        """Itself; falls where the command failed or showed a traceback."""
        assert self.code == 0, f"expected success: {self}"
        assert "Traceback" not in self.err, f"expected no traceback: {self}"
        return self

    def refused(self, *words: str, within: float = 15.0) -> Done:
        """Itself; falls unless the command was refused as bad input, in these words, before any work."""
        assert self.code == 2, f"expected exit code 2: {self}"
        assert "Traceback" not in self.err, f"expected no traceback: {self}"
        for word in words:
            assert word in self.said, f"expected {word!r} in what is said: {self}"
        assert self.busy < within, f"expected an answer within {within} s of a processor: {self}"
        return self

    def json(self) -> Any:
        """The document on standard output of a command that succeeded."""
        return json.loads(self.succeeded().out)

    def retrained(self) -> None:
        """Falls unless it was a retraining that came to a verdict."""
        assert self.json()["decision"]["verdict"], f"expected a verdict: {self}"


def _busy() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Place:
    """A fresh folder with a params.yaml, and commands in it.

    Attributes:
        folder: Commands start there; the workspace is `.posa/` in it.
        code: Checkout that `posa` is run from.
        variables: The environment of commands; a row may change it.
    """

    folder: Path
    code: Path = ROOT
    variables: dict[str, str] = field(default_factory=lambda: {k: os.environ[k] for k in _KEPT if k in os.environ})

    def command(self, *arguments: str) -> list[str]:
        """`posa` as its script starts it: by this interpreter, with the script's folder on the path."""
        script = "import sys\nfrom posa_vla.cli.start import start\nif __name__ == '__main__':\n    sys.exit(start())\n"
        if self.code != ROOT:  # an editable install finds the first checkout alone
            script = f"import sys\nsys.path.insert(0, {str(self.code)!r})\n{script}"
        launcher = self.folder.parent / "bin" / "posa"
        launcher.parent.mkdir(exist_ok=True)
        launcher.write_text(script, encoding="utf-8")
        return [sys.executable, str(launcher), *arguments]

    def posa(self, *arguments: str, shell: Mapping[str, str] | None = None, seconds: float = 300) -> Done:
        """Runs `posa`; see `run`."""
        return self.run(*self.command(*arguments), shell=shell, seconds=seconds)

    def run(
        self, *command: str, shell: Mapping[str, str] | None = None, seconds: float = 300, folder: Path | None = None
    ) -> Done:
        """Runs a command; one that is not done in time falls.

        Args:
            command: Program and arguments.
            shell: Variables besides those of the place.
            seconds: How long it may take.
            folder: Where it is started, if not in the place's folder.
        """
        start, before = time.monotonic(), _busy()
        try:
            done = subprocess.run(
                command,
                cwd=folder or self.folder,
                env={**self.variables, **(shell or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            told = (late.stderr or b"")[-3000:]
            raise AssertionError(f"`{' '.join(command)}` did not end within {seconds} s\n{told!r}") from None
        shown = " ".join(command[1:] if command[0] == sys.executable else command)
        return Done(shown, done.returncode, done.stdout, done.stderr, time.monotonic() - start, _busy() - before)

    def retrain(self, shell: Mapping[str, str] | None = None) -> None:
        """Runs the smallest retraining to its verdict."""
        self.posa(*RETRAIN, shell=shell, seconds=900).retrained()


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: How it is selected.
        what: What people have.
        check: Falls by an AssertionError.
        slow: Takes more than a few seconds.
    """

    name: str
    what: str
    check: Callable[[Place], None]
    slow: bool


ROWS: dict[str, Row] = {}


def row(what: str, *, slow: bool = False) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Makes a function a row of the table, named as the function is."""

    def add(check: Callable[[Place], None]) -> Callable[[Place], None]:
        name = check.__name__.replace("_", "-")
        assert name not in ROWS, f"two rows are named {name}"
        ROWS[name] = Row(name, what, check, slow)
        return check

    return add


def read_rows() -> dict[str, Row]:
    """All rows, by name, from the files beside this one."""
    for path in sorted(Path(__file__).parent.glob("*_rows.py")):
        __import__(path.stem)
    return ROWS


def fresh_place(folder: Path) -> Place:
    """A place in a new folder."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    return Place(folder)
