"""What a person or a program sees: progress on standard error, one JSON document on standard output."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

stderr = Console(stderr=True)

# Characters of a table's line that are borders and the space beside them.
_BORDERS = 7
# Where the JSON document goes once standard output has been reserved for it.
_reserved: TextIO | None = None
_printed = False

# Who else hears every line: Prefect's page of a flow run.
_listeners: list[Callable[[str], None]] = []


@contextmanager
def also_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Hands every line, and progress in tenths, to `listener` as well while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(text: str, *, shown: bool) -> None:
    if not shown:
        stderr.print(text, highlight=False, markup=False, soft_wrap=True)
    for listener in _listeners:
        listener(text)


class _Tenths:
    """A line every tenth of the way."""

    def __init__(self, title: str, total: int, done: int, unit: str, *, shown: bool) -> None:
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._shown = shown
        self._start, self._count, self._tenth = time.monotonic(), done, -1

    def advance(self, steps: int, note: str) -> None:
        """Counts; says so where a tenth is passed."""
        self._count += steps
        tenth = self._count * 10 // max(self._total, 1)
        if tenth <= self._tenth:
            return
        self._tenth = tenth
        rate = (self._count - self._done) / max(time.monotonic() - self._start, 1e-9)
        left = f"{(self._total - self._count) / rate:.0f}" if rate > 0 else "unknown"
        where = f"{self._title}: {self._count}/{self._total} {self._unit}"
        _tell(f"{where}, {rate:.1f} {self._unit}/s, {left} s left {note}".rstrip(), shown=self._shown)


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Counts `steps` more units as done; a note stays until the next one."""
        ...


@contextmanager
def progress(title: str, total: int, *, done: int = 0, unit: str = "it") -> Iterator[Advance]:
    """A bar with count, rate and time left on a terminal; a line every tenth of the way elsewhere.

    Args:
        title: What is going on.
        total: Units of work in all.
        done: Units that an earlier run finished already.
        unit: Name of one unit.
    """
    tenths = _Tenths(title, total, done, unit, shown=stderr.is_terminal)
    if stderr.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=stderr, transient=False) as bar:
            task = bar.add_task(title, total=total, completed=done, rate="", note="")

            def advance(steps: int = 1, note: str = "") -> None:
                bar.update(task, advance=steps)
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")
                if note:
                    bar.update(task, note=note)
                tenths.advance(steps, note)

            yield advance
        return

    def plain(steps: int = 1, note: str = "") -> None:
        tenths.advance(steps, note)

    yield plain


def say(text: str) -> None:
    """One line for a person, on standard error."""
    _tell(text, shown=False)


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Keeps standard output for `print_json`: what libraries and child processes print there goes to standard error."""
    global _reserved, _printed
    _printed = False
    sys.stdout.flush()
    _reserved = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(_reserved.fileno(), 1)
        with suppress(OSError):  # a full disk was said when the document was written
            _reserved.close()
        _reserved = None


def print_json(value: Any) -> None:
    """The command's one JSON document, on standard output."""
    global _printed
    _printed = True
    out = _reserved or sys.stdout
    out.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    out.flush()


def printed_json() -> bool:
    """Whether `print_json` has been called."""
    return _printed


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """A two-column table on standard output.

    A value that is too long for a line stands below the table, whole and without borders, so that a command or a key
    can be copied.
    """
    console = Console()
    table = Table(title=title, show_header=False, title_justify="left")
    room = console.width - max((len(name) for name, _ in rows), default=0) - _BORDERS
    for name, value in rows:
        if len(value) <= room:
            table.add_row(name, value)
    console.print(table, highlight=False, markup=False)
    for name, value in rows:
        if len(value) > room:
            console.print(f"{name}: {value}", highlight=False, markup=False, soft_wrap=True)


def log_to_stderr(run_key: str = "-") -> None:
    """Sends log lines to standard error, each with the run key."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {run_key[:12]} %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("posa_vla")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
