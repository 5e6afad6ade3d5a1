"""Who holds a workspace, and who only looks."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from posa_vla.errors import Busy
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(Settings(home=tmp_path / "home"))


def _hold(workspace: Workspace, ready: Any, done: Any) -> None:
    with workspace.lock("a retraining"):
        ready.set()
        done.wait(60)
    os._exit(0)


def _look(workspace: Workspace, ready: Any, done: Any) -> None:
    """A look that lasts."""
    flock = fcntl.flock

    def slow(file: Any, how: int) -> None:
        flock(file, how)
        ready.set()
        done.wait(0.3)

    fcntl.flock = slow
    workspace.held()
    os._exit(0)


@contextmanager
def beside(work: Any, workspace: Workspace) -> Iterator[None]:
    """Another process that does `work` until the block ends."""
    ready, done = FORK.Event(), FORK.Event()
    process = FORK.Process(target=work, args=(workspace, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        done.set()
        process.join(30)


def in_thread(work: Any) -> list[Any]:
    """What `work` gave, or raised, in a thread of its own."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Busy as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return found


def test_who_looks_at_the_lock_never_stops_a_run_that_starts(workspace: Workspace) -> None:
    with workspace.lock("an earlier run"):
        pass
    with beside(_look, workspace), workspace.lock("a run"):
        assert (workspace.home / "lock").read_text().startswith("a run")


def test_a_look_tells_what_another_process_does(workspace: Workspace) -> None:
    assert not workspace.held()
    assert not workspace.home.exists(), "a look makes nothing"
    with beside(_hold, workspace):
        assert workspace.held()
        assert "a retraining, process" in str(workspace.holder())
        with pytest.raises(Busy, match="a retraining"), workspace.lock("a run"):
            pass
    assert not workspace.held()
    assert workspace.holder() is None


def test_who_holds_it_may_take_it_again_and_is_nobody_else(workspace: Workspace) -> None:
    with workspace.lock("a run"):
        assert not workspace.held()
        with workspace.lock("a part of the run"):
            assert not workspace.held()
        assert in_thread(workspace.held) == [True], "the inner block frees nothing"


def test_two_threads_never_both_hold_it(workspace: Workspace) -> None:
    def take() -> str:
        with workspace.lock("another run"):
            return "held"

    with workspace.lock("a run"):
        (refused,) = in_thread(take)
        assert isinstance(refused, Busy)
        assert "a run" in str(refused)
    assert in_thread(take) == ["held"]
