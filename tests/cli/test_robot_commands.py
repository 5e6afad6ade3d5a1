"""`posa robot` by its file: what one command writes and says is what the next one takes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from factories import make_embodiment
from releases import TARGET, Channel
from robot.agents import load, load_instead
from typer.testing import CliRunner

from posa_vla.cli.robot import app
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import write_json
from posa_vla.policy.execution import Execution
from posa_vla.release.trust import write_trust
from posa_vla.robot.settings import FILE, fields, read_settings
from posa_vla.robot.station.client import ask


def posa_robot(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def document(*arguments: str) -> dict[str, Any]:
    done = posa_robot(*arguments, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def said_command(output: str, **replaced: str) -> list[str]:
    """The `posa robot` command that a message ends with, as a person types it."""
    found = re.search(r"posa robot (.*)$", output.strip())
    assert found is not None, output
    return [replaced.get(word, word) for word in shlex.split(found.group(1))]


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """A channel with a release, and `trust` beside it; the current folder is a robot's, with its embodiment."""
    channel = Channel(tmp_path, str(tmp_path / "channel"))
    channel.publish(1, schema_version=2, execution=Execution(execute=2, max_steps=6))
    write_trust(tmp_path / "trust", channel.publisher.root_bytes(), channel.trust)
    (tmp_path / "bench").mkdir()
    write_json(tmp_path / "bench" / "arm.yaml", make_embodiment().model_dump(mode="json"))  # JSON is YAML
    load_instead(monkeypatch, load)
    monkeypatch.chdir(tmp_path / "bench")
    return channel


def test_init_provision_run_and_status_by_what_each_says(publisher: Channel, tmp_path: Path) -> None:
    flags = ["--target", TARGET, "--channel", "../channel", "--embodiment", "arm.yaml", "--driver", "dry-run"]
    flags += ["--max-steps", "4", "--episodes", "2"]
    wrote = posa_robot("init", *flags, "--name", "bench-1", "--reports", "reports")
    assert wrote.exit_code == 0, wrote.output
    own = read_settings(None, {}).settings
    assert (own.target, own.channel, own.name, own.max_steps) == (TARGET, str(tmp_path / "channel"), "bench-1", 4)
    assert own.options == {"task": "pick"}
    provisioned = posa_robot(*said_command(wrote.stderr, DIR="../trust"))
    assert provisioned.exit_code == 0, provisioned.output
    following = said_command(provisioned.stderr)
    assert following == ["run", "--config", FILE]

    report = document(*following, "--once", "--episodes", "1", "--max-steps", "3")
    assert (report["update"], report["episodes"], report["mean_steps"]) == ("installed", 1, 3)
    assert report["terms"]["lowered"] == ["an episode is over after 3 steps, released were 6"]
    left = json.loads(Path("reports/reports/bench-1/latest.json").read_bytes())
    assert left["release"] == report["release"]
    # No flag at all: the file of this folder says everything.
    report = document("run", "--once")
    assert (report["update"], report["episodes"], report["mean_steps"]) == ("unchanged", 2, 4)
    assert document("status")["release"] == document("status", "--home", "robot")["release"] == report["release"]


def test_a_file_that_contradicts_the_release_or_the_trust_is_named_with_its_key(publisher: Channel) -> None:
    flags = ["--target", TARGET, "--channel", "../channel", "--embodiment", "arm.yaml", "--driver", "dry-run"]
    assert posa_robot("init", *flags, "--execute", "4").exit_code == 0
    assert posa_robot("provision", "--trust", "../trust").exit_code == 0
    with pytest.raises(
        BadInput, match=f"{FILE}: execute: 4: release 1 was judged with 2.*take execute out of the file"
    ):
        posa_robot("run", "--once")
    with pytest.raises(BadInput, match=r"--execute 3: release 1 was judged with 2.*leave --execute out"):
        posa_robot("run", "--once", "--execute", "3")
    with pytest.raises(BadInput, match=r"--start-noise 0.0: release 1 was judged with 1.0.*leave --start-noise out"):
        posa_robot("run", "--once", "--execute", "2", "--start-noise", "0")
    with pytest.raises(BadInput, match=r"--flow-steps 9: release 1 was judged with none.*leave --flow-steps out"):
        posa_robot("run", "--once", "--execute", "2", "--flow-steps", "9")
    assert document("run", "--once", "--execute", "2", "--episodes", "1")["update"] == "unchanged"
    with pytest.raises(BadInput, match=r"provisioned for target 'bench-pick', got --target 'other'"):
        posa_robot("run", "--target", "other")
    text = Path(FILE).read_text()
    Path(FILE).write_text(text.replace("embodiment: arm.yaml", "embodiment: sim_arm6"))
    with pytest.raises(BadInput, match=rf"{FILE}: embodiment: 'sim_arm6' has digest"):
        posa_robot("run", "--once")
    Path(FILE).write_text(text.replace(f"target: {TARGET}", "target: other"))
    with pytest.raises(BadInput, match=rf"got {FILE}: target: 'other'"):
        posa_robot("provision", "--trust", "../trust")
    with pytest.raises(BadInput, match="--socket is for a robot that goes on"):
        posa_robot("run", "--once", "--socket", "s")


def test_status_says_what_the_file_lowers_or_that_it_contradicts_the_release(publisher: Channel) -> None:
    flags = ["--target", TARGET, "--channel", "../channel", "--embodiment", "arm.yaml", "--driver", "dry-run"]
    assert posa_robot("init", *flags, "--max-steps", "4", "--episodes", "0").exit_code == 0
    assert posa_robot("provision", "--trust", "../trust").exit_code == 0
    assert posa_robot("run", "--once").exit_code == 0
    lowered = "an episode is over after 4 steps, released were 6"
    found = document("status")
    assert (found["lowered"], found["contradiction"]) == ([lowered], None)
    assert found["execution"]["max_steps"] == 6, "what the release fixes"
    assert "max_steps 4" in found["runs_with"]
    assert lowered in " ".join(posa_robot("status").output.replace("│", " ").split())
    assert document("status", "--home", "robot")["lowered"] == []

    text = Path(FILE).read_text()
    for before, after, words in (
        ("execute: null", "execute: 4", f"{FILE}: execute: 4: release 1 was judged with 2"),
        (f"target: {TARGET}", "target: other", f"got {FILE}: target: 'other'"),
    ):
        Path(FILE).write_text(text.replace(before, after))
        with pytest.raises(BadInput, match=re.escape(words)):
            posa_robot("run", "--once")
        found = document("status")
        assert words in found["contradiction"]
        assert found["release"]["number"] == 1, "what is installed"
        assert found["runs_with"] is None
        assert "nothing" in posa_robot("status").output


def test_run_without_a_flag_follows_the_channel_and_answers_on_the_file_s_socket(publisher: Channel) -> None:
    flags = ["--channel", "../channel", "--target", TARGET, "--embodiment", "arm.yaml", "--driver", "dry-run"]
    wrote = posa_robot("init", *flags, "--episodes", "0", "--interval", "0.05", "--socket", "s", "--name", "bench-1")
    assert wrote.exit_code == 0, wrote.output
    assert posa_robot("provision", "--trust", "../trust").exit_code == 0
    answers: list[dict[str, Any]] = []

    def ask_and_interrupt() -> None:
        try:
            deadline = time.monotonic() + 30
            while not answers or answers[-1]["update"] is None:
                assert time.monotonic() < deadline
                with contextlib.suppress(PosaError):
                    answers.append(ask(Path("s"), {"command": "status"}, timeout=10))
            answers.append(ask(Path("s"), {"command": "episodes", "episodes": 1}, timeout=30))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    # A shell starts its background jobs, and with them these tests, with Ctrl-C ignored: here it shall count.
    answers_ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    asker = threading.Thread(target=ask_and_interrupt)
    asker.start()
    try:
        done = CliRunner().invoke(app, ["run"])
        asker.join()
    finally:
        signal.signal(signal.SIGINT, answers_ctrl_c)
    assert f"settings: {FILE}" in done.stderr
    status, episodes = answers[-2:]
    assert (status["robot"], status["update"], status["episodes"]) == ("bench-1", "installed", 0)
    assert [row["steps"] for row in episodes["rows"]] == [6]
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--target and --channel missing"),
        (["--embodiment", "sim_arm7"], "did you mean 'sim_arm6'"),
        (["--driver", "simulatd"], "did you mean 'simulated'"),
        (["--objects", "0"], "options of simulated: objects: .*greater than or equal to 1"),
        (["--option", "object=2"], "options of simulated: unknown key object; did you mean 'objects'"),
        (["--driver", "dry-run", "--objects", "2"], "options of dry-run: unknown key objects"),
        (["--option", "objects"], "--option 'objects': expected KEY=VALUE, for example task=pick"),
        (["--name", "Bench 1"], "robot name 'Bench 1'"),
        (["--max-steps", "0"], "flags: max_steps"),
    ],
)
def test_init_refuses_what_run_would_refuse_and_writes_nothing(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = ["--target", "t", "--channel", "c"] if flags else []
    with pytest.raises(BadInput, match=words):
        posa_robot("init", *needed, *flags)
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_the_commands_say_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["run"], ["status"]):
        with pytest.raises(BadInput, match="posa robot init"):
            posa_robot(*command)
    home = document("init", "--target", "t", "--channel", "c", "--home", "a b")
    assert home["config"] == f"a b/{FILE}"
    assert said_command(home["next"])[:3] == ["provision", "--config", f"a b/{FILE}"]
    with pytest.raises(BadInput, match=r"a b has no trust yet: provision it first, `posa robot provision --home 'a b'"):
        posa_robot("status", "--home", "a b")


def test_run_has_a_flag_for_each_setting() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"], terminal_width=200, color=False).stdout
    for name in set(fields()) - {"schema_version", "options"}:
        assert f"--{name.replace('_', '-')} " in shown
    assert "--option " in shown
