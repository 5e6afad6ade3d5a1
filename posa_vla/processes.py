"""Servers that this process starts for itself: where they listen, and that they end with it."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
from collections.abc import Callable

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dies_with_parent(how: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends `how` to the child when its parent ends, even by kill -9 (Linux only)."""

    def before_start() -> None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, how)

    return before_start
