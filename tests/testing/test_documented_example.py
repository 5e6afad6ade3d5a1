"""What docs/drivers.md tells a plug-in's author to write runs in a repository of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from factories import make_embodiment

from posa_vla.errors import BadInput
from posa_vla.files import write_json
from posa_vla.robot.control.robot import RobotOptions, driver_options

ROOT = Path(__file__).parents[2]
DRIVERS = """
from posa_vla.robot.drivers.dry_run import DryRunRobot


# Its clock is its own, so that no busy machine makes it late.
class MyArm(DryRunRobot):
    def __init__(self, options):
        self.seconds = 0.0
        super().__init__(options, clock=lambda: self.seconds, sleep=self.let_pass)

    def let_pass(self, seconds):
        self.seconds += seconds


class Careless(MyArm):
    def apply(self, action):
        self._wait()
"""


def documented() -> list[str]:
    """The page's programs: a suite that runs on a driver, and a driver with options of its own."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/drivers.md").read_text(), re.DOTALL)


def test_the_driver_with_options_of_its_own_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    program = types.ModuleType("my_arm")
    monkeypatch.setitem(sys.modules, "my_arm", program)
    exec(documented()[1], program.__dict__)
    monkeypatch.setattr("posa_vla.robot.control.robot.find_driver", lambda name: program.MyArm)
    own = driver_options("my-arm", {"port": "/dev/ttyUSB0"}, "test")
    assert own.model_dump() == {"task": "pick", "port": "/dev/ttyUSB0", "baud": 115200}
    assert program.MyArm(RobotOptions("my_arm.yaml", "pick", 64, own=own))._port == "/dev/ttyUSB0"
    with pytest.raises(BadInput, match="did you mean 'port'"):
        driver_options("my-arm", {"prot": "x"}, "test")


def test_the_example_passes_and_a_careless_driver_does_not(tmp_path: Path) -> None:
    example, _ = documented()
    write_json(tmp_path / "my_arm.yaml", make_embodiment().model_dump(mode="json"))  # JSON is YAML
    (tmp_path / "my_arm.py").write_text(DRIVERS)
    (tmp_path / "test_my_arm.py").write_text(example)
    careless = example.replace("MyArm", "Careless")
    (tmp_path / "test_careless.py").write_text(careless)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "PASSED test_my_arm.py::TestMyArm::" in done.stdout, done.stdout + done.stderr
    failed = re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    assert failed == ["test_careless.py::TestCareless::test_an_action_outside_the_contract_is_refused"], done.stdout
    assert "an action that is too short was applied" in done.stdout


def test_without_pytest_the_extra_is_named() -> None:
    hidden = "import sys; sys.modules['pytest'] = None; import posa_vla.testing"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "pip install 'posa-vla[testing]'" in done.stderr
