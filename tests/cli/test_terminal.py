"""Commands with closed or full streams, in another locale, and ended by signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A command that starts a process, says so, and waits; what it leaves when it is ended lies in the folder.
WAITING = """
import subprocess, sys, time
from pathlib import Path
from posa_vla.processes import dies_with_parent, end_tree

def wait() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $! > grandchild; wait"])
    try:
        while not Path("grandchild").exists() or not Path("grandchild").read_text():
            time.sleep(0.01)
        Path("started").write_text(str(child.pid))
        time.sleep(60)
    finally:
        end_tree(child.pid)
        child.wait()
        Path("let-go").touch()
"""
STARTER = """
from posa_vla.cli import main
main.COMMANDS["wait"] = main.Command("waiting", "Waits.", "wait")
main.main()
"""


def environment(folder: Path, **variables: str) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(folder)])
    return {**os.environ, "PYTHONPATH": paths, "POSA_HOME": str(folder / "home"), **variables}


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script.replace("POSA", f"{sys.executable} -m posa_vla.cli.start")],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_command_needs_no_standard_streams(tmp_path: Path, closed: str) -> None:
    done = shell(f"POSA init new --json {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (">&-" in closed.replace("2>&-", "")) == (done.stdout == "")


def test_a_closed_stream_s_number_is_given_to_no_file(tmp_path: Path) -> None:
    code = "from posa_vla.cli import terminal; terminal.prepare(); print(open('file', 'wb').fileno() > 2, flush=True)"
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "{code}; import os; os.write(2, b\'said\')" 2>&- <&-', sys.executable],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.stdout, (tmp_path / "file").read_bytes()) == ("True\n", b"")


@pytest.mark.parametrize("command", ["init new --json", "--help"])
def test_a_full_disk_behind_standard_output_is_one_message(tmp_path: Path, command: str) -> None:
    done = shell(f"POSA {command} >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the disk is full")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_bad_input_stays_exit_2_where_the_message_cannot_be_written(tmp_path: Path) -> None:
    assert shell("POSA retrain --nope 2>/dev/full", tmp_path).returncode == 2
    assert shell("POSA robot run --config no 2>/dev/full", tmp_path).returncode == 2


def test_a_message_is_utf_8_in_another_locale(tmp_path: Path) -> None:
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell("POSA robot run --config Würfel.yaml", tmp_path, **other)
    assert (done.returncode, "error: --config Würfel.yaml does not exist" in done.stderr) == (2, True)


def test_a_path_that_is_no_text_is_shown_in_escapes(tmp_path: Path) -> None:
    done = shell("POSA robot run --json --config $'W\\xfcrfel.yaml'", tmp_path)
    assert done.returncode == 2
    assert "rfel.yaml does not exist" in json.loads(done.stdout)["error"]["message"]
    assert "W\\udcfcrfel.yaml" in done.stderr


def _answer_signals() -> None:
    """These tests may themselves have been started by `nohup`, or by a shell as a background job."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _start(folder: Path, *before: str) -> subprocess.Popen[str]:
    (folder / "waiting.py").write_text(WAITING, encoding="utf-8")
    command = subprocess.Popen(
        [*before, sys.executable, "-c", STARTER, "wait"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        preexec_fn=_answer_signals,
    )
    deadline = time.monotonic() + 30
    while not (folder / "started").exists():
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return command


ENDING = [
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    *(pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGXCPU)),
]


@pytest.mark.parametrize("number", ENDING)
def test_every_signal_that_ends_a_command_lets_go_what_it_holds(tmp_path: Path, number: signal.Signals) -> None:
    command = _start(tmp_path)
    grandchild = int((tmp_path / "grandchild").read_text())
    command.send_signal(number)
    if number != signal.SIGINT:  # a person who asks twice means it
        command.send_signal(number)  # a shell and its terminal both send one
    _, said = command.communicate(timeout=30)
    assert command.returncode == 128 + number
    assert (tmp_path / "let-go").exists()
    assert "the same command continues where this one stopped" in said
    assert (number.name in said) == (number != signal.SIGINT)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{grandchild}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{grandchild}").exists()


def test_nohup_keeps_a_command_going_when_its_terminal_is_closed(tmp_path: Path) -> None:
    command = _start(tmp_path, "nohup")
    command.send_signal(signal.SIGHUP)  # comes first: what it ended would exit with its number
    command.terminate()
    command.communicate(timeout=30)
    assert command.returncode == 128 + signal.SIGTERM
