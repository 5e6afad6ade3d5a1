"""The test bench: an arm in joint space, degrees, one jaw that moves, pictures of 4:3, a bowl."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from posa_vla.dataset.labels import gripper_events
from posa_vla.episodes.embodiment import load_embodiment, shipped_embodiments
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.geometry import project
from posa_vla.sim.demonstration import demonstrate
from posa_vla.sim.environment import TaskEnvironment, make_environment


@pytest.fixture(scope="module")
def bench() -> Iterator[TaskEnvironment]:
    environment = make_environment("so101_bench", "pick_place", image_size=64, objects=2, max_steps=80)
    yield environment
    environment.close()


def test_the_expert_puts_objects_into_the_bowl_with_noise_and_without(bench: TaskEnvironment) -> None:
    episodes = [demonstrate(bench, seed, noise) for noise in (0.0, 0.3) for seed in range(6)]
    kept = [episode for episode in episodes if episode is not None]
    assert len(kept) >= 11
    embodiment = bench.embodiment
    low, high = embodiment.action_limits()
    for episode in kept:
        episode.check()
        assert episode.cameras["head"].images.shape[1:] == (48, 64, 3)
        assert (episode.action >= low).all()
        assert (episode.action <= high).all()
        closing_and_opening = 2
        assert len(gripper_events(episode, embodiment)) >= closing_and_opening


def test_recorded_degrees_and_the_chain_give_the_pose_that_was_measured(bench: TaskEnvironment) -> None:
    episode = demonstrate(bench, 3, 0.0)
    assert episode is not None
    assert episode.end_effector is not None
    folder = shipped_embodiments()["so101_bench"].parent
    poses = ForwardKinematics(load_embodiment("so101_bench"), folder).poses(episode.state)
    np.testing.assert_allclose(poses[:, :3], episode.end_effector[:, :3], atol=1e-5)


def test_the_bench_s_arm_is_the_shipped_so101_s() -> None:
    bench, arm = load_embodiment("so101_bench"), load_embodiment("so101")
    assert bench.state == arm.state
    folder = shipped_embodiments()["so101"].parent
    state = np.random.default_rng(0).uniform(-90, 90, (20, 6)).astype(np.float32)
    declared = arm.model_dump(mode="json")["kinematics"] | {"mjcf": "so101_bench.xml"}
    same = arm.model_validate({**arm.model_dump(mode="json"), "kinematics": declared})
    one, other = (ForwardKinematics(e, folder).poses(state) for e in (arm, same))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_wide_camera_sees_all_objects_and_has_its_own_middle(bench: TaskEnvironment) -> None:
    _, info = bench.reset(seed=5)
    camera = info["cameras"]["head"]
    seen = project(info["privileged"]["objects"], camera["intrinsics"], camera["pose"], 64, 48)
    assert seen.visible.all()
    assert camera["intrinsics"][2:].tolist() == [32, 24]
