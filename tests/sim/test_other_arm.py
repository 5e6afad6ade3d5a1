"""Another arm comes in by an embodiment file; what does not fit is refused with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from posa_vla.errors import BadInput
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import make_environment

GANTRY = """
<mujoco>
  <compiler autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default><geom contype="0" conaffinity="0" mass="0.2"/><joint type="slide" armature="0.5"/></default>
  <worldbody>
    <body pos="0.4 0 0.4" gravcomp="1">
      <joint name="x" axis="1 0 0" range="-0.3 0.3"/>
      <geom size="0.02"/>
      <body gravcomp="1">
        <joint name="y" axis="0 1 0" range="-0.3 0.3"/>
        <geom size="0.02"/>
        <body gravcomp="1">
          <joint name="z" axis="0 0 1" range="-0.4 0.1"/>
          <geom type="box" size="0.02 0.05 0.01"/>
          <camera name="hand_camera" pos="0.07 0 0.02" xyaxes="0 1 0 -0.9 0 0.4" fovy="70"/>
          <site name="tool" pos="0 0 -0.07" quat="0 1 0 0"/>
          <body name="left" gravcomp="1">
            <joint name="jaw" axis="0 1 0" range="0 0.04" damping="100"/>
            <geom type="box" size="0.01 0.005 0.03" pos="0 0.005 -0.05" contype="1" conaffinity="1" condim="4"
                  friction="2 0.02 0.001" mass="0.03"/>
          </body>
          <body name="right" gravcomp="1">
            <joint name="jaw_mirror" axis="0 -1 0" range="0 0.04" damping="100"/>
            <geom type="box" size="0.01 0.005 0.03" pos="0 -0.005 -0.05" contype="1" conaffinity="1" condim="4"
                  friction="2 0.02 0.001" mass="0.03"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <equality><joint joint1="jaw_mirror" joint2="jaw" polycoef="0 1 0 0 0"/></equality>
  <actuator>
    <position name="mx" joint="x" kp="3000" dampratio="1"/>
    <position name="my" joint="y" kp="3000" dampratio="1"/>
    <position name="mz" joint="z" kp="3000" dampratio="1"/>
    <position name="mj" joint="jaw" kp="900" ctrlrange="0 0.04"/>
  </actuator>
</mujoco>
"""


def declaration() -> dict[str, Any]:
    def channel(name: str, unit: str, low: float, high: float) -> dict[str, Any]:
        return {"name": name, "unit": unit, "low": low, "high": high}

    return {
        "id": "gantry",
        "simulated": True,
        "control_hz": 10,
        "cameras": {"wrist": {"source": "hand_camera", "moving": True}},
        "state": [
            channel("end_effector_x", "m", 0.2, 0.6),
            channel("end_effector_y", "m", -0.2, 0.2),
            channel("end_effector_z", "m", 0.01, 0.3),
            channel("gripper", "1", 0, 1),
        ],
        "action": [
            *(channel(f"delta_{axis}", "m", -0.03, 0.03) for axis in "xyz"),
            channel("gripper", "1", 0, 1),
        ],
        "action_frame": "base",
        "arm": {
            "mjcf": "gantry.xml",
            "joints": ["x", "y", "z"],
            "actuators": ["mx", "my", "mz"],
            "home": [0, 0, -0.15],
            "end_effector_site": "tool",
            "gripper_actuator": "mj",
            "gripper_joint": "jaw",
            "gripper_range": [0, 0.04],
        },
    }


def write(folder: Path, value: dict[str, Any], mjcf: str = GANTRY) -> str:
    (folder / "gantry.xml").write_text(mjcf)
    path = folder / "gantry.yaml"
    path.write_text(yaml.safe_dump(value))
    return str(path)


def test_the_expert_picks_with_a_gantry(tmp_path: Path) -> None:
    environment = make_environment(write(tmp_path, declaration()), "pick", image_size=32, objects=2, max_steps=60)
    observation, _ = environment.reset(seed=0)
    assert list(observation["images"]) == ["wrist"]
    assert observation["state"].shape == (4,)
    episodes = [demonstrate(environment, seed, 0.0) for seed in range(5)]
    environment.close()
    assert sum(episode is not None for episode in episodes) >= 4
    assert all(np.isfinite(episode.state).all() for episode in episodes if episode is not None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(arm=None), "declares no `arm`"),
        (lambda d: d["arm"].update(mjcf="gone.xml"), "gone.xml does not exist"),
        (lambda d: d["arm"].update(joints=["x", "y", "zz"]), "no joint 'zz'"),
        (lambda d: d["arm"].update(gripper_actuator="hand"), "no actuator 'hand'"),
        (lambda d: d["arm"].update(end_effector_site="tip"), "no site 'tip'"),
        (lambda d: d["arm"].update(home=[0, 0]), "2 home positions"),
        (lambda d: d["cameras"]["wrist"].update(source="eye"), "camera 'eye'"),
        (lambda d: d["action"].pop(), "action channels"),
        (lambda d: d["state"].pop(0), "missing"),
        (lambda d: d["state"][3].update(name="grip"), "grip"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    value = declaration()
    change(value)
    with pytest.raises(BadInput, match=message):
        make_environment(write(tmp_path, value), "pick", image_size=32, objects=1, max_steps=5)


def test_a_broken_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not MJCF"):
        make_environment(
            write(tmp_path, declaration(), "<mujoco><worldbody>"), "pick", image_size=32, objects=1, max_steps=5
        )
