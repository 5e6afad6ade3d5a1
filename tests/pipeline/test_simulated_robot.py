"""What the loop tells its simulated robot: one file in the robot's home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from untrained import arm_params, real_arm

from posa_vla.errors import PosaError
from posa_vla.pipeline.steps.robot import reported, robot_home, simulated_robot
from posa_vla.robot.settings import FILE, RobotSettings, read_settings, write_file
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

PARAMS = arm_params(robot={"episodes": 3})


def told(workspace: Workspace, *, fixed: bool) -> RobotSettings:
    file = robot_home(workspace, "t") / FILE
    write_file(file, simulated_robot(workspace, PARAMS, fixed=fixed))
    return read_settings(file, {}).settings


def test_a_release_that_says_how_it_is_run_is_contradicted_in_nothing(tmp_path: Path) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    own = told(workspace, fixed=True)
    assert (own.execute, own.committed, own.ensemble, own.max_steps, own.image_size) == (None,) * 5
    assert own.options == {"task": "pick", "objects": 1}
    assert (own.target, own.episodes) == ("t", 3)
    own = told(workspace, fixed=False)
    assert (own.execute, own.committed, own.ensemble, own.max_steps, own.image_size) == (4, 0, None, 6, 32)


def test_the_file_goes_along_with_a_workspace_that_is_moved(tmp_path: Path) -> None:
    told(Workspace.open(Settings(home=tmp_path / "home")), fixed=True)
    shutil.move(tmp_path / "home", tmp_path / "elsewhere")
    own = read_settings(tmp_path / "elsewhere" / "robots" / "t" / FILE, {}).settings
    assert Path(own.channel).resolve() == tmp_path / "elsewhere" / "channel"
    assert Path(own.home).resolve() == tmp_path / "elsewhere" / "robots" / "t"


def test_places_outside_the_workspace_are_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real_arm(tmp_path)
    params = arm_params("real_arm.yaml")
    for channel, named in (("channel", str(tmp_path / "channel")), ("s3://releases/a",) * 2):
        workspace = Workspace.open(Settings(home=tmp_path / "home", channel=channel))
        own = simulated_robot(workspace, params, fixed=True)
        assert (own.channel, own.embodiment) == (named, str(tmp_path / "real_arm.yaml"))


@pytest.mark.parametrize("said", [b"", b"[]", b'{"release": null, "episodes": 0, "successes": 0, "reason": "expired"}'])
def test_a_robot_that_ran_no_release_is_a_failure_in_words(said: bytes) -> None:
    with pytest.raises(PosaError, match="reports no release that it ran"):
        reported(said)
