"""A driver of somebody else is told what it declares, and nothing else."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from factories import make_embodiment

from posa_vla.errors import BadInput
from posa_vla.files import write_json
from posa_vla.robot.control.robot import DriverOptions, RobotOptions
from posa_vla.robot.drivers.dry_run import DryRunRobot
from posa_vla.robot.settings import Given, RobotSettings
from posa_vla.robot.station.service import open_robot, spelled_out


class SerialOptions(DriverOptions):
    port: str
    baud: int = 115200


class SerialArm(DryRunRobot):
    Options = SerialOptions

    def __init__(self, options: RobotOptions) -> None:
        super().__init__(options)
        self.opened_with = options


class OlderArm(DryRunRobot):
    """Declares no options."""

    def __init__(self, options: RobotOptions) -> None:
        super().__init__(options)
        self.opened_with = options


@pytest.fixture
def arm(tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """An embodiment's file; the two drivers are installed as an installer would install them."""
    info = tmp_path / "arms" / "arms-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arms\nVersion: 1\n")
    points = "".join(f"{name} = plugin_arms:{name}\n" for name in ("SerialArm", "OlderArm"))
    (info / "entry_points.txt").write_text(f"[posa_vla.robots]\n{points}")
    module = ModuleType("plugin_arms")
    vars(module).update(SerialArm=SerialArm, OlderArm=OlderArm)
    monkeypatch.setitem(sys.modules, "plugin_arms", module)
    monkeypatch.syspath_prepend(str(info.parent))
    path = tmp_path / "arm.yaml"
    write_json(path, make_embodiment().model_dump(mode="json"))  # JSON is YAML
    return str(path)


def told(arm: str, driver: str, **options: Any) -> Given:
    known = RobotSettings(home="h", channel="c", target="t", embodiment=arm, driver=driver, options=options)
    return Given(known, None, {"options": Path("bench.yaml")})


def test_a_driver_gets_the_options_that_it_declares(arm: str) -> None:
    robot = open_robot(told(arm, "SerialArm", port="/dev/ttyUSB0", task="stack"))
    assert isinstance(robot, SerialArm)
    assert robot.opened_with.own == SerialOptions(port="/dev/ttyUSB0", task="stack")
    assert robot.opened_with.task == "stack"
    spelled = spelled_out(told(arm, "SerialArm", port="p"))
    assert spelled.options == {"task": "pick", "port": "p", "baud": 115200}


def test_what_it_does_not_declare_is_refused_before_it_is_opened(arm: str) -> None:
    for options, words in (
        ({}, "bench.yaml: options: port: Field required"),
        ({"port": "p", "bauds": 9600}, "bench.yaml: options: unknown key bauds; did you mean 'baud'"),
        ({"port": "p", "baud": "fast"}, "bench.yaml: options: baud: .*valid integer"),
    ):
        with pytest.raises(BadInput, match=words):
            open_robot(told(arm, "SerialArm", **options))


def test_a_driver_that_declares_nothing_is_opened_as_before(arm: str) -> None:
    robot = open_robot(told(arm, "OlderArm", task="stack"), image_size=48, max_steps=7)
    assert isinstance(robot, OlderArm)
    assert replace(robot.opened_with, own=None) == RobotOptions(arm, "stack", 48, 3, 7)
    with pytest.raises(BadInput, match="options: unknown key port; known: task"):
        open_robot(told(arm, "OlderArm", port="p"))
