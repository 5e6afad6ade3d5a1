"""The expert solves scenes, remembers nothing and comes back when pushed."""

from __future__ import annotations

import numpy as np

from posa_vla.sim.demonstration import BurstNoise, demonstrate
from posa_vla.sim.environment import TaskEnvironment
from posa_vla.sim.expert import ScriptedExpert


def test_it_solves_undisturbed_scenes_in_short_episodes(environment: TaskEnvironment) -> None:
    lengths = []
    for seed in range(2**31, 2**31 + 8):
        episode = demonstrate(environment, seed, noise=0.0)
        assert episode is not None, f"seed {seed}"
        lengths.append(len(episode))
    assert max(lengths) <= 28


def test_noise_costs_it_few_scenes_and_leaves_the_labels_clean(environment: TaskEnvironment) -> None:
    episodes = [demonstrate(environment, seed, noise=0.3) for seed in range(12)]
    kept = [e for e in episodes if e is not None]
    assert len(kept) >= 11
    for episode in kept:
        episode.check()
        assert np.linalg.norm(episode.action[:, :3], axis=1).max() <= 0.0151
    moved = np.concatenate([np.diff(e.end_effector[:, :3], axis=0) for e in kept if e.end_effector is not None])
    asked = np.concatenate([e.action[:-1, :3] for e in kept])
    off = np.linalg.norm(moved - asked, axis=1)
    assert 0.1 < (off > 0.004).mean() < 0.7, "noise moved the arm off the labels on part of the steps"


def test_it_recovers_from_a_push_at_any_time(environment: TaskEnvironment) -> None:
    expert = ScriptedExpert(environment)
    for push_at in (5, 11, 16):
        _, info = environment.reset(seed=4)
        for step in range(60):
            action = expert.act()
            if push_at <= step < push_at + 3:
                inwards = np.sign(np.array([0.41, 0.0]) - info["end_effector"][:2])
                action = np.array([*0.03 * inwards, 0.02, 1], np.float32)
            _, _, terminated, _, info = environment.step(action)
            if terminated:
                break
        assert terminated, f"pushed at step {push_at}"
        assert step > 20, "the push cost it time"


def test_the_action_depends_on_the_present_alone(environment: TaskEnvironment) -> None:
    expert = ScriptedExpert(environment)
    environment.reset(seed=6)
    for _ in range(9):
        environment.step(expert.act())
    np.testing.assert_array_equal(expert.act(), ScriptedExpert(environment).act())
    np.testing.assert_array_equal(expert.act(), expert.act())


def test_noise_comes_in_bursts_of_the_stated_size() -> None:
    scale = np.array([0.009, 0.009, 0.009], np.float32)
    draws = np.concatenate([[n.draw() for _ in range(60)] for n in (BurstNoise(scale, s) for s in range(200))])
    on = np.abs(draws).sum(axis=1) > 0
    assert 0.2 < on.mean() < 0.6
    np.testing.assert_allclose(draws[on].std(axis=0), scale, rtol=0.1)
    both = on[1:] & on[:-1]
    assert np.corrcoef(draws[1:][both, 0], draws[:-1][both, 0])[0, 1] > 0.2
    again = BurstNoise(scale, 5)
    np.testing.assert_array_equal([BurstNoise(scale, 5).draw() for _ in range(1)], [again.draw()])
