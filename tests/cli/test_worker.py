"""`posa worker`: Prefect's own worker, in an environment of ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from posa_vla.cli.worker import worker
from posa_vla.errors import BadInput
from posa_vla.settings import Settings
from posa_vla.shell import enter


class Begun(Exception):
    """The worker would have begun, with this command."""


def test_a_worker_and_its_flow_runs_see_the_configured_server_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exec_instead(program: str, command: list[str]) -> NoReturn:
        raise Begun(command)

    ours = {
        "POSA_PREFECT_API_URL": "http://ours:4200/api",
        "POSA_HOME": str(tmp_path),
        "PREFECT_API_AUTH_STRING": "a:b",
    }
    kept = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PATH": os.environ["PATH"]}
    theirs = {"PREFECT_API_URL": "http://theirs/api", "NCCL_SOCKET_IFNAME": "ib0", "PYTHONPATH": "/opt/ros"}
    monkeypatch.setattr(os, "environ", {**ours, **kept, **theirs})
    monkeypatch.setattr(os, "execv", exec_instead)
    enter(Settings())
    with pytest.raises(Begun) as begun:
        worker(health_port=None)
    assert begun.value.args[0][1:5] == ["-P", "-m", "prefect", "worker"]
    assert os.environ["PREFECT_API_URL"] == ours["POSA_PREFECT_API_URL"]
    assert {name: os.environ.get(name) for name in ours | kept} == ours | kept
    assert "NCCL_SOCKET_IFNAME" not in os.environ
    assert "/opt/ros" not in os.environ.get("PYTHONPATH", "")


def test_a_worker_without_a_server_says_which_setting_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_API_URL": "http://theirs/api"})
    with pytest.raises(BadInput, match="POSA_PREFECT_API_URL"):
        worker(health_port=None)
