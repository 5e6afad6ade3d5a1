"""Behaviour of the trained policy that is committed under docs/results: invariances, and what a word changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posa_vla.model.posa_policy import PosAPolicy, load_policy
from posa_vla.policy.policy import Observation
from posa_vla.release.bundle import verify_bundle
from posa_vla.sim.environment import TaskEnvironment, make_environment

CHECKPOINT = Path(__file__).parents[2] / "docs" / "results" / "small"
SCENES = range(2**31 + 7, 2**31 + 15)


@pytest.fixture(scope="module")
def policy() -> PosAPolicy:
    (folder,) = (path for path in CHECKPOINT.iterdir() if path.is_dir())
    verify_bundle(folder, folder.name)
    return load_policy(folder, folder.name, threads=1)


@pytest.fixture(scope="module")
def environment() -> TaskEnvironment:
    return make_environment("sim_arm6", "pick", image_size=64, objects=3, max_steps=60)


def seen(environment: TaskEnvironment, seed: int, instruction: str | None = None) -> Observation:
    observation, info = environment.reset(seed=seed)
    return Observation(observation["images"], observation["state"], instruction or str(info["instruction"]))


@pytest.mark.parametrize("change", [str.upper, lambda text: text.replace(" ", "   "), lambda text: f" {text}. "])
def test_case_spacing_and_punctuation_change_no_action(
    policy: PosAPolicy, environment: TaskEnvironment, change: object
) -> None:
    first = seen(environment, SCENES[0])
    second = Observation(first.images, first.state, change(first.instruction))  # type: ignore[operator]  # parametrised
    assert np.array_equal(policy.act([first], seed=1).actions, policy.act([second], seed=1).actions)


def attended(policy: PosAPolicy, observation: Observation) -> np.ndarray:
    """Pixel (u, v) of the head camera where the task's channel is highest."""
    attention = policy.act([observation], seed=0, attention=True).attention
    assert attention is not None
    maps = attention["head"][0, 0]
    row, column = divmod(int(maps.argmax()), maps.shape[1])
    return (np.array([column, row]) + 0.5) * 64 / maps.shape[0]


def test_another_colour_and_shape_move_the_attention_to_that_object(
    policy: PosAPolicy, environment: TaskEnvironment
) -> None:
    from posa_vla.geometry import project

    right = asked = 0
    for seed in SCENES:
        environment.reset(seed=seed)
        camera = environment.simulation.cameras.calibration(environment.simulation.data, "head")
        for number, thing in enumerate(environment.scene.objects):
            observation = seen(environment, seed, f"pick up the {thing.name}")
            centres = np.stack([environment.simulation.object_position(i) for i in range(3)])
            places = project(centres, np.tile(camera["intrinsics"], (3, 1)), np.tile(camera["pose"], (3, 1)), 64, 64)
            distances = np.linalg.norm(places.pixels - attended(policy, observation), axis=1)
            asked += 1
            right += int(distances.argmin()) == number
    assert right >= 0.75 * asked, f"{right} of {asked}"
