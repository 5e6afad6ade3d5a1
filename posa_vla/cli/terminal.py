"""What may surround a command: streams that are closed or full, signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Any

# Besides SIGTERM: a terminal that is closed, Ctrl-\, and what batch systems send before they kill.
_ENDING = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGALRM)

# The signal that ended the command; None where none did.
_ended_by: signal.Signals | None = None


def prepare() -> None:
    """Makes a process that a person or a supervisor started one that commands can rely on; called once, first of all.

    Every signal that ends a process ends a command the way Ctrl-C does: what it started ends with it, and what it
    holds is let go. One that was ignored from outside (`nohup`) stays ignored.
    """
    _open_closed_streams()
    if sys.stdout is not None:
        # Names of files need not be text.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a TextIOWrapper here
    sys.stderr = _stderr()
    for number in (signal.SIGTERM, *_ENDING):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end if number == signal.SIGTERM else _end_as_by_term)


def exit_code() -> int | None:
    """128 and the number of the signal that ended the command, as shells say it; None where none did."""
    return None if _ended_by is None else 128 + _ended_by


def ending_words() -> str:
    """What ended the command."""
    return "interrupted" if _ended_by is None else f"ended by {_ended_by.name}"


def _end(number: int, frame: FrameType | None) -> None:
    global _ended_by
    _ended_by = _ended_by or signal.Signals(number)
    signal.signal(number, signal.SIG_IGN)  # the end itself is not to be interrupted
    raise KeyboardInterrupt


def _end_as_by_term(number: int, frame: FrameType | None) -> None:
    """Through the handler of SIGTERM, which is Prefect's while a flow runs: it puts the flow run's end on record."""
    global _ended_by
    signal.signal(number, signal.SIG_IGN)  # a shell and its terminal both send one
    if _ended_by is not None:
        return
    _ended_by = signal.Signals(number)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGTERM)


def _open_closed_streams() -> None:
    """Opens the null device for standard streams that are closed (`>&-`).

    Otherwise the next file that is opened, a database perhaps, gets the stream's number, and what a library prints.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


class _Lossy(io.FileIO):
    """A stream whose reader may be gone, or its disk full: what is said there must not stop the work."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _stderr() -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Lossy(2, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
