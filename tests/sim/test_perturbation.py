from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from untrained import arm_params, untrained_bundle

from posa_vla.dataset.shards.prepare import imitable
from posa_vla.dataset.split import scene_key
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.geometry import project
from posa_vla.params import CollectParams, PerturbParams
from posa_vla.policy.policy import ActionChunk
from posa_vla.sim.collect import Learner, collect
from posa_vla.sim.demonstration import demonstrate, relabelled
from posa_vla.sim.environment import make_environment

MUCH = PerturbParams(camera_shift=0.03, camera_turn=0.02, light=0.5, table=0.4)


@pytest.fixture(scope="module")
def perturbed():
    made = make_environment("sim_arm6", "pick", image_size=64, objects=3, max_steps=60, perturb=MUCH)
    yield made
    made.close()


def test_a_seed_looks_the_same_each_time_and_other_seeds_look_otherwise(perturbed, environment):
    first, info = perturbed.reset(seed=3)
    _, other = perturbed.reset(seed=4)
    again, same = perturbed.reset(seed=3)
    plain, undisturbed = environment.reset(seed=3)
    np.testing.assert_array_equal(first["images"]["head"], again["images"]["head"])
    assert info["scene"] == same["scene"]
    assert info["scene"]["perturbed"] != other["scene"]["perturbed"]
    assert "perturbed" not in undisturbed["scene"]
    assert np.abs(first["images"]["head"].astype(int) - plain["images"]["head"]).mean() > 3


def test_the_recorded_calibration_is_the_perturbed_cameras(perturbed):
    """Something is seen where it is projected: the target's colour is there, seed after seed."""
    for seed in range(6):
        observation, info = perturbed.reset(seed=seed)
        camera, target = info["cameras"]["head"], info["privileged"]["objects"][info["privileged"]["target"]]
        seen = project(target, camera["intrinsics"], camera["pose"], 64, 64)
        if not seen.visible:
            continue
        u, v = seen.pixels.astype(int)
        patch = observation["images"]["head"][v - 1 : v + 2, u - 1 : u + 2].reshape(-1, 3).astype(int)
        # Objects are coloured, the table is grey.
        assert (patch.max(axis=1) - patch.min(axis=1)).max() > 50


def test_one_scene_is_on_one_side_of_the_split_however_it_looks(perturbed, environment):
    plain, changed = demonstrate(environment, 5, 0.0), demonstrate(perturbed, 5, 0.0)
    assert plain is not None
    assert changed is not None
    assert plain.scene != changed.scene
    assert scene_key(plain) == scene_key(changed)


class Still:
    """A policy that stays where it is, gripper open."""

    digest = "f" * 64

    def act(self, batch, *, committed=None, seed=0):
        return ActionChunk(np.tile(np.array([0, 0, 0, 1], np.float32), (len(batch), 8, 1)), "base")


def test_labels_are_what_the_expert_would_do_where_the_policy_went(environment):
    episode = relabelled(environment, 7, Still(), beta=0.0, execute=4)
    assert (len(episode), episode.success) == (60, False)
    assert episode.scene["collected"] == {"how": "dagger", "policy": "f" * 64, "beta": 0.0}
    # The arm stands still; the expert would go on and on towards the target, with the gripper open.
    assert np.ptp(episode.state[:, :6], axis=0).max() < 0.02
    assert (np.linalg.norm(episode.action[:, :3], axis=1) > 0.01).all()
    assert (episode.action[:, 3] == 1).all()


def test_when_every_step_is_the_experts_it_is_a_demonstration(environment):
    episode, shown = relabelled(environment, 7, Still(), beta=1.0, execute=4), demonstrate(environment, 7, 0.0)
    assert shown is not None
    assert episode.success
    np.testing.assert_array_equal(episode.action, shown.action)
    np.testing.assert_array_equal(episode.state, shown.state)


@pytest.mark.slow
def test_a_bundles_rollouts_come_into_the_store_and_are_imitated(tmp_path: Path):
    bundle = untrained_bundle(tmp_path, arm_params())
    params = CollectParams(episodes=2, image_size=32)
    learner = Learner(bundle.folder, bundle.digest)
    episodes = list(collect("sim_arm6", "pick", params, tmp_path / "parts", learner=learner, workers=1))
    assert [episode.scene["seed"] for episode in episodes] == [0, 1]
    again = list(collect("sim_arm6", "pick", params, tmp_path / "parts", learner=learner, workers=1))
    np.testing.assert_array_equal(episodes[1].action, again[1].action)
    store = EpisodeStore(tmp_path / "store")
    store.append(episodes, load_embodiment("sim_arm6"))
    assert "success" not in validate(store.root).rules
    ((_, reader),) = store.readers()
    assert all(imitable(record) for record in reader.records)
    assert not any(record.extra.success for record in reader.records)
