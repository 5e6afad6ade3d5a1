"""An agent as an earlier commit shipped it, on channels of today: it takes what it knows, and refuses the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from releases import Channel
from the_past import AGENT

# The agent's own loading is out of its way: the bundle of this test is no policy.
_AGENT = """
import json, sys
from pathlib import Path
from posa_vla.release.channel import ChannelClient
from posa_vla.release.record import Trust
from posa_vla.robot import agent as module
assert sys.argv[1] in module.__file__, module.__file__
folder = Path(sys.argv[2])
module.check_health = lambda load, folder, digest, robot, seconds: None
trust = Trust.model_validate_json((folder / "trust.json").read_bytes())
client = ChannelClient(str(folder / "channel"), folder / "tuf", (folder / "root.json").read_bytes())
agent = module.Agent(folder / "robot", client, trust, load=lambda *_: None)
for _ in sys.stdin:
    print(json.dumps(vars(agent.update())), flush=True)
"""


@contextmanager
def earlier_agent(folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """The earlier agent in a process of its own; every call has it look at the channel once."""
    variables = {**os.environ, "PYTHONPATH": str(AGENT)}
    command = [sys.executable, "-c", _AGENT, AGENT.name, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=variables, cwd=folder, **pipes) as process:

        def update() -> dict[str, Any]:
            process.stdin.write("look\n")
            process.stdin.flush()
            report: dict[str, Any] = json.loads(process.stdout.readline())
            return report

        yield update
        process.stdin.close()


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    made = Channel(tmp_path, str(tmp_path / "channel"))
    (tmp_path / "trust.json").write_text(made.trust.model_dump_json())
    (tmp_path / "root.json").write_bytes(made.publisher.root_bytes())
    return made


def test_it_takes_version_1_and_keeps_it_when_version_2_comes(tmp_path: Path, channel: Channel) -> None:
    channel.publish(1)
    with earlier_agent(tmp_path) as update:
        assert update()["status"] == "installed"
        channel.publish(2, schema_version=2)
        report = update()
        assert (report["status"], report["release"]) == ("refused", 1)
        assert "release-record:v2" in report["reason"]
        channel.publish(3)
        report = update()
        assert (report["status"], report["release"]) == ("installed", 3)
