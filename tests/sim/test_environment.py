"""The environment keeps its contract: seeded, clipped, calibrated in time, terminated on success."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from posa_vla.errors import BadInput
from posa_vla.sim.environment import TaskEnvironment, make_environment
from posa_vla.sim.expert import ScriptedExpert


def rollout(environment: TaskEnvironment, seed: int, steps: int) -> list[np.ndarray]:
    observation, info = environment.reset(seed=seed)
    expert = ScriptedExpert(environment)
    seen = []
    for _ in range(steps):
        seen += [*observation["images"].values(), observation["state"], info["end_effector"]]
        seen += [camera["pose"] for camera in info["cameras"].values()]
        observation, _, terminated, _, info = environment.step(expert.act())
        if terminated:
            break
    return seen


def test_a_seed_gives_the_same_episode_in_any_environment(environment: TaskEnvironment) -> None:
    rollout(environment, 3, 5)
    first = rollout(environment, 2**31 + 11, 40)
    other = make_environment("sim_arm6", "pick", image_size=64, objects=3, max_steps=60)
    second = rollout(other, 2**31 + 11, 40)
    other.close()
    assert len(first) == len(second) > 50
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_observations_and_info_fit_the_contract(environment: TaskEnvironment) -> None:
    observation, info = environment.reset(seed=1)
    assert set(observation) == {"images", "state"}
    assert set(observation["images"]) == set(environment.embodiment.cameras) == set(info["cameras"])
    for image in observation["images"].values():
        assert image.dtype == np.uint8
        assert image.shape == (64, 64, 3)
        assert image.std() > 5
    assert observation["state"].dtype == np.float32
    assert environment.observation_space.contains(observation)
    low = np.array([c.low for c in environment.embodiment.state])
    high = np.array([c.high for c in environment.embodiment.state])
    assert ((observation["state"] >= low) & (observation["state"] <= high)).all()
    assert info["end_effector"].dtype == np.float64
    assert info["end_effector"].shape == (7,)
    np.testing.assert_allclose(observation["state"][6:9], info["end_effector"][:3], atol=1e-6)
    assert info["success"] is False
    assert info["gripper"] == pytest.approx(1, abs=0.02)
    json.dumps(info["scene"])


@pytest.mark.parametrize("delta", [(0.03, 0, 0), (0, -0.03, 0), (0, 0, 0.03), (-0.02, 0.02, -0.02)])
def test_a_delta_is_reached_within_its_step(environment: TaskEnvironment, delta: tuple[float, ...]) -> None:
    _, before = environment.reset(seed=5)
    _, _, _, _, after = environment.step(np.array([*delta, 1], np.float32))
    moved = after["end_effector"][:3] - before["end_effector"][:3]
    np.testing.assert_allclose(moved, delta, atol=0.003)
    assert abs(abs(after["end_effector"][4]) - 1) < 1e-3, "the gripper points down"


def test_actions_and_targets_are_clipped(environment: TaskEnvironment) -> None:
    _, before = environment.reset(seed=5)
    _, _, _, _, after = environment.step(np.array([5, 0, 0, 1], np.float32))
    assert after["end_effector"][0] - before["end_effector"][0] < 0.035
    for _ in range(15):
        _, _, _, _, after = environment.step(np.array([0.03, 0.03, 0.03, 1], np.float32))
    limits = {c.name: c.high for c in environment.embodiment.state}
    corner = [limits[f"end_effector_{axis}"] for axis in "xyz"]
    np.testing.assert_allclose(after["end_effector"][:3], corner, atol=0.004)


def test_the_table_stops_the_fingers(environment: TaskEnvironment) -> None:
    environment.reset(seed=5)
    for _ in range(12):
        observation, _, _, _, info = environment.step(np.array([0, 0, -0.03, 0], np.float32))
    assert info["end_effector"][2] > 0.008
    assert np.isfinite(observation["state"]).all()


@pytest.mark.parametrize("action", [[0, 0, np.nan, 1], [0, 0, 0], [np.inf, 0, 0, 0]])
def test_a_bad_action_is_refused(environment: TaskEnvironment, action: list[float]) -> None:
    environment.reset(seed=0)
    with pytest.raises(BadInput, match="expected"):
        environment.step(np.array(action, np.float32))


def test_an_idle_arm_is_truncated_and_the_scene_stays_put() -> None:
    environment = make_environment("sim_arm6", "pick", image_size=32, objects=6, max_steps=15)
    _, before = environment.reset(seed=7)
    for step in range(15):
        _, reward, terminated, truncated, after = environment.step(np.array([0, 0, 0, 1], np.float32))
        assert (reward, terminated, truncated) == (0.0, False, step == 14)
    drift = after["privileged"]["objects"] - before["privileged"]["objects"]
    assert np.abs(drift).max() < 1e-3
    environment.close()


def test_a_closed_gripper_in_the_air_is_no_success(environment: TaskEnvironment) -> None:
    environment.reset(seed=8)
    for _ in range(6):
        _, _, terminated, _, info = environment.step(np.array([0, 0, 0.02, 0], np.float32))
    assert not terminated
    assert not info["success"]
    assert not info["privileged"]["held"]
    assert info["gripper"] < 0.1


def test_the_other_of_two_equal_objects_is_a_success_too() -> None:
    environment = make_environment("sim_arm6", "pick_either", image_size=32, objects=3, max_steps=60)
    _, info = environment.reset(seed=3)
    (twin,) = environment.scene.equals
    other = dataclasses.replace(environment.scene, target=twin)
    expert = ScriptedExpert(cast(TaskEnvironment, SimpleNamespace(**{**vars(environment), "scene": other})))
    for _ in range(60):
        *_, terminated, _, info = environment.step(expert.act())
        if terminated:
            break
    assert info["success"]
    assert not info["privileged"]["held"], "what is held is the twin, not the scene's target"
    environment.close()


def test_step_before_reset_and_unknown_names_are_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'sim_arm6'"):
        make_environment("sim_arm", "pick", image_size=32, objects=1, max_steps=5)
    with pytest.raises(BadInput, match="did you mean 'pick'"):
        make_environment("sim_arm6", "picks", image_size=32, objects=1, max_steps=5)
    fresh = make_environment("sim_arm6", "pick", image_size=32, objects=1, max_steps=5)
    with pytest.raises(BadInput, match="reset"):
        fresh.step(np.zeros(4, np.float32))
    fresh.close()
