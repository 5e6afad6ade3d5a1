"""Rows: streams that are closed or full, terminals that are closed, and what somebody deletes on MLflow's page."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

from machine_row import RETRAIN, Absent, Done, Place, row


def with_streams(place: Place, streams: str, *arguments: str) -> Done:
    """`posa` with its standard streams led elsewhere by a shell."""
    return place.run("sh", "-c", f'exec "$@" {streams}', "sh", *place.command(*arguments))


@row("standard output or standard error closed")
def closed_streams(place: Place) -> None:
    with_streams(place, ">&-", "init", "made", "--json").succeeded()
    with_streams(place, ">&- 2>&- <&-", "init", "made-too").succeeded()
    assert (place.folder / "made" / "params.yaml").is_file()
    assert (place.folder / "made-too" / "params.yaml").is_file()


@row("a full disk behind standard output, or behind standard error")
def full_streams(place: Place) -> None:
    if not Path("/dev/full").exists():
        raise Absent("there is no /dev/full")
    done = with_streams(place, ">/dev/full", "init", "made", "--json")
    assert done.code == 1, f"expected exit code 1: {done}"
    assert "the disk is full" in done.said, f"expected that the disk is full: {done}"
    assert "Traceback" not in done.err, f"expected no traceback: {done}"
    lost = with_streams(place, "2>/dev/full", "robot", "run", "--config", "nowhere.yaml")
    assert lost.code == 2, f"expected exit code 2: {lost}"


def processes_in(folder: Path) -> list[str]:
    """Programs that run with a path below a folder on their command line or in their environment."""
    found, mine = [], str(folder).encode()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mine in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # ended, or another user's
            continue
    return found


def _heed_the_terminal() -> None:
    """The table itself may have been started by `nohup`, which a command respects."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@row("the terminal closed during a retraining: nothing stays, the same command continues", slow=True)
def closed_terminal(place: Place) -> None:
    place.variables["POSA_HOME"] = str(place.folder / ".posa")  # by which what it started is found
    ledger = place.folder / ".posa" / "ledger"
    with (place.folder.parent / "said").open("wb") as said:
        command = subprocess.Popen(
            place.command(*RETRAIN),
            cwd=place.folder,
            env=place.variables,
            stdout=said,
            stderr=said,
            preexec_fn=_heed_the_terminal,
        )
        deadline = time.monotonic() + 300
        while not list(ledger.rglob("*.json")):
            assert command.poll() is None, "the retraining ended before its first step was done"
            assert time.monotonic() < deadline, "no step was done in 300 s"
            time.sleep(0.1)
        command.send_signal(signal.SIGHUP)
        code = command.wait(timeout=120)
    assert code == 128 + signal.SIGHUP, (
        f"exited {code}: {(place.folder.parent / 'said').read_text(encoding='utf-8', errors='replace')}"
    )
    deadline = time.monotonic() + 30
    while (left := processes_in(place.folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"these go on: {left}"
    place.retrain()


@row("MLflow's experiment deleted, then its whole store: the loop goes on", slow=True)
def mlflow_deleted(place: Place) -> None:
    place.retrain()
    store = place.folder / ".posa" / "mlflow"
    database = sqlite3.connect(store / "mlflow.db")
    with database:
        database.execute("update experiments set lifecycle_stage = 'deleted'")
    database.close()
    place.retrain()
    shutil.rmtree(store)
    place.retrain()
    assert os.listdir(store), "MLflow's store is there again"
