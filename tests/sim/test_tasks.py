"""Scenes: drawn from the seed alone, solvable, described in full."""

from __future__ import annotations

import json
import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posa_vla.episodes.embodiment import TableArea
from posa_vla.errors import BadInput
from posa_vla.params import Wording
from posa_vla.sim.tasks import BOWL_RADIUS, COLOURS, MIN_DISTANCE, SHAPES, sample_scene


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**63), objects=st.integers(1, 6))
def test_objects_differ_and_leave_room_for_the_gripper(seed: int, objects: int) -> None:
    scene = sample_scene("pick", seed, objects)
    assert len(scene.objects) == objects
    assert len({o.name for o in scene.objects}) == objects
    points = np.array([o.position[:2] for o in scene.objects])
    area = TableArea()
    assert (np.abs(points - area.centre) <= area.half_width).all()
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(objects)
    assert gaps.min() >= MIN_DISTANCE
    assert scene.instruction == f"pick up the {scene.objects[scene.target].name}"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_seed_fixes_the_scene_and_json_tells_all_of_it(seed: int) -> None:
    scene = sample_scene("pick", seed, 3)
    assert sample_scene("pick", seed, 3) == scene
    assert sample_scene("pick", seed + 1, 3) != scene
    told = json.loads(json.dumps(scene.to_json()))
    assert sample_scene(told["task"], told["seed"], len(told["objects"])).to_json() == told


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), objects=st.integers(2, 6))
def test_either_of_two_equal_objects_is_right(seed: int, objects: int) -> None:
    scene = sample_scene("pick_either", seed, objects)
    names = [thing.name for thing in scene.objects]
    (twin,) = scene.equals
    assert names[twin] == names[scene.target]
    assert twin != scene.target
    assert len(set(names)) == objects - 1
    assert scene.to_json()["equals"] == [twin]


def test_every_object_is_asked_for_sooner_or_later() -> None:
    asked = {sample_scene("pick", seed, 3).instruction for seed in range(300)}
    assert asked == {f"pick up the {colour} {shape}" for colour in COLOURS for shape in SHAPES}


@pytest.mark.parametrize("wording", get_args(Wording))
def test_another_wording_changes_the_words_alone_and_still_names_the_target(wording: Wording) -> None:
    things = {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES}
    asked = set()
    for seed in range(200):
        usual, scene = sample_scene("pick", seed, 3), sample_scene("pick", seed, 3, None, wording)
        target = scene.objects[scene.target].name
        assert (scene.objects, scene.target, scene.start_offset) == (usual.objects, usual.target, usual.start_offset)
        assert (scene.instruction == usual.instruction) == (wording == "trained")
        named = re.findall("|".join(things), scene.instruction)
        assert named.count(target) == 1
        rest = {name for name in named if name != target}
        assert len(rest) == (wording == "contrasted")
        assert rest <= {o.name for o in scene.objects}, "what must not be picked lies on the table"
        asked.add(scene.instruction.replace(target, "TARGET"))
    assert (len(asked) == 1) == (wording == "trained"), "more than one sentence"


def test_neither_the_first_nor_the_last_object_named_is_always_the_target() -> None:
    first = set()
    for seed in range(60):
        scene = sample_scene("pick", seed, 2, None, "contrasted")
        mine, other = (
            scene.instruction.index(o.name) for o in (scene.objects[scene.target], scene.objects[1 - scene.target])
        )
        first.add(mine < other)
    assert first == {True, False}


def test_bad_scenes_are_refused() -> None:
    with pytest.raises(BadInput, match="names another object"):
        sample_scene("pick", 0, 1, None, "contrasted")
    with pytest.raises(BadInput, match="did you mean 'pick'"):
        sample_scene("pik", 0, 3)
    with pytest.raises(BadInput, match="expected 1 to 6"):
        sample_scene("pick", 0, 7)
    with pytest.raises(BadInput, match="two equal objects"):
        sample_scene("pick_either", 0, 1)
    with pytest.raises(BadInput, match="negative"):
        sample_scene("pick", -1, 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), objects=st.integers(1, 3))
def test_objects_lie_beside_the_bowl_and_in_the_arm_s_own_area(seed: int, objects: int) -> None:
    area = TableArea(centre=(0.23, 0), half_width=0.075, scale=0.65)
    scene = sample_scene("pick_place", seed, objects, area=area)
    assert scene.bowl is not None
    points = np.array([o.position[:2] for o in scene.objects])
    assert (np.abs(np.array([*points, scene.bowl]) - area.centre) <= area.half_width).all()
    assert (np.linalg.norm(points - scene.bowl, axis=1) >= (MIN_DISTANCE + BOWL_RADIUS) * area.scale).all()
    assert scene.instruction == f"put the {scene.objects[scene.target].name} into the bowl"
    assert scene.to_json()["bowl"] == list(scene.bowl)
    with pytest.raises(BadInput, match="pick_place has no wording 'paraphrased'"):
        sample_scene("pick_place", seed, objects, wording="paraphrased", area=area)
