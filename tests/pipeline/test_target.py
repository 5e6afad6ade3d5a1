"""Which episodes a target learns from, and what is refused before a retraining of it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cheap_place import Place, make_place
from factories import make_embodiment, make_episode
from untrained import arm_params

from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.dataset.shards.prepare import prepare
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.params import Params, PrepareParams, TargetParams
from posa_vla.params_file import load_params, overlaid
from posa_vla.pipeline.evaluation import run_evaluation
from posa_vla.pipeline.rejection import run_reject
from posa_vla.pipeline.target import collects, filter_for, require_target
from posa_vla.target_params import Where


def asking(params: Params, **target: Any) -> Params:
    return overlaid(params, {"targets": {params.target: target}}, "test")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A store with cubes by two sources and a drawer, in three batches."""
    place = make_place(tmp_path)
    store, rng = EpisodeStore(place.workspace.store), np.random.default_rng(0)
    for words, source in (("Pick up the cube", "teleop"), ("pick up the cube", "sim"), ("open the drawer", "teleop")):
        episodes = [make_episode(rng, instruction=words, source=source) for _ in range(2)]  # type: ignore[arg-type]  # a str
        store.append(episodes, make_embodiment())
    return place


def test_a_target_that_says_nothing_new_is_written_as_it_always_was() -> None:
    written = TargetParams(embodiment="a", task="pick").model_dump(mode="json")
    assert not {"data", "evidence"} & written.keys()
    assert TargetParams(embodiment="a", task="pick", evidence=["robot"]).model_dump()["evidence"] == ["robot"]


@pytest.mark.parametrize(
    ("where", "episodes"),
    [
        ({}, 6),
        ({"source": "teleop"}, 4),
        ({"source": ["sim", "teleop"]}, 6),
        ({"instruction": "pick up the cube"}, 4),
        ({"instruction": ["* drawer"]}, 2),
        ({"instruction": "pick*", "source": "sim"}, 2),
        ({"embodiment": "test_arm"}, 6),
    ],
)
def test_training_data_are_made_of_the_episodes_that_a_filter_asks_for(
    tmp_path: Path, place: Place, where: dict[str, Any], episodes: int
) -> None:
    params = asking(place.context.params, data={"where": where})
    asked, folder = params.chosen.data.where, place.workspace.store
    options = PrepareParams(validation_fraction=0, image_size=16)
    made = prepare(folder, validate(folder), make_embodiment(), options, tmp_path / "out", asked)
    assert made.splits["train"].episodes == episodes
    assert read_manifest(tmp_path / "out").where == asked
    require_target(place.workspace, asking(params, evidence=["offline"]))


def test_a_batch_is_named_by_its_first_digits(place: Place) -> None:
    first, *_ = EpisodeStore(place.workspace.store).batches()
    params = asking(place.context.params, data={"where": {"batch": first[:6]}})
    assert list(params.chosen.data.where.unfit(embodiment="", instruction="", source="", batch=first)) == []
    with pytest.raises(BadInput, match=r"data\.where\.batch\.0"):
        asking(params, data={"where": {"batch": "no digits"}})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"instruction": "fold the towel"}, "leaves none of 6 .*: instruction fits none.*'Pick up the cube', 'open"),
        ({"source": "deployment"}, "source fits none. There are: source: 'sim', 'teleop'"),
        ({"embodiment": "other_arm"}, "embodiment fits none. There are: embodiment: 'test_arm'"),
        ({"instruction": "*drawer", "source": "sim"}, "instruction and source fit none"),
        ({"batch": "0000"}, "batch fits none"),
    ],
)
def test_a_filter_that_leaves_nothing_is_refused_before_anything_begins(
    place: Place, where: dict[str, Any], message: str
) -> None:
    params = asking(place.context.params, data={"where": where}, evidence=["offline"])
    before = sorted(place.workspace.home.rglob("*"))
    with pytest.raises(BadInput, match=rf"(?s)targets\.t\.data\.where .*{message}"):
        require_target(place.workspace, params)
    assert sorted(place.workspace.home.rglob("*")) == before


def test_a_target_without_a_simulator_collects_nothing_and_asks_for_none(place: Place) -> None:
    params, arm = place.context.params, make_embodiment()
    assert not collects(params, arm)
    with pytest.raises(BadInput, match=r"declares no `arm` to simulate: set targets\.t\.evidence=\[offline,robot\]"):
        require_target(place.workspace, params)
    with pytest.raises(BadInput, match=r"data\.collect is true, and embodiment test_arm declares no `arm`"):
        collects(asking(params, data={"collect": True}), arm)


def test_a_target_with_a_simulator_collects_unless_it_is_told_not_to() -> None:
    params, arm = arm_params(), load_embodiment("sim_arm6")
    assert collects(params, arm)
    assert not collects(asking(params, data={"collect": False}), arm)


@pytest.mark.parametrize("where", [{"source": "teleop"}, {"batch": "0000"}, {"embodiment": "other"}])
def test_a_filter_that_drops_all_that_would_be_collected_is_refused_before_it_is(
    place: Place, where: dict[str, Any]
) -> None:
    base = arm_params()
    with pytest.raises(BadInput, match=r"data\.where drops what the simulator's expert shows .*data\.collect=false"):
        require_target(place.workspace, asking(base, data={"where": where}))
    require_target(place.workspace, asking(base, data={"where": {"source": ["sim", "teleop"]}}))
    require_target(place.workspace, asking(base, data={"where": {"source": "sim", "instruction": "pick *"}}))


def test_a_filter_for_what_was_recorded_beside_the_expert_is_enough(place: Place) -> None:
    store, arm = EpisodeStore(place.workspace.store), load_embodiment("sim_arm6")
    before = set(store.batches())
    episode = make_episode(np.random.default_rng(5), embodiment=arm.id, source="teleop")
    state, action = (np.zeros((len(episode), len(part)), np.float32) for part in (arm.state, arm.action))
    cameras = dict.fromkeys(arm.cameras, episode.cameras["head"])
    store.append([replace(episode, cameras=cameras, state=state, action=action)], arm)
    (batch,) = set(store.batches()) - before
    for asked in ({"source": "teleop"}, {"batch": batch[:8]}):
        require_target(place.workspace, asking(arm_params(), data={"where": asked}))


def test_what_only_a_simulator_can_do_says_what_can_be_done_without(place: Place) -> None:
    for run in (lambda: run_evaluation(place.workspace, place.context.params, None, 2, 1), lambda: rejected(place)):
        with pytest.raises(BadInput, match=r"needs a simulator, and embodiment test_arm .*`posa evaluate offline`"):
            run()
    assert not place.workspace.bundles.exists()


def rejected(place: Place) -> None:
    run_reject(place.workspace, place.context.params, "")


def test_a_preset_of_the_shipped_target_says_nothing_of_others(place: Place) -> None:
    params = load_params(Path(place.params_file), "tiny")
    assert (list(params.targets), params.train.steps) == (["t"], 30)


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    place.append(2, seed=1, success=False)
    with pytest.raises(BadInput, match=r"holds no successful episode of embodiment test_arm.*posa data ingest PATH"):
        require_target(place.workspace, asking(place.context.params, evidence=["offline"]))


def test_another_robot_s_recordings_are_not_filtered(place: Place) -> None:
    params = asking(place.context.params, data={"where": {"source": "sim"}})
    assert filter_for(params, "test_arm") == Where(source=["sim"])
    assert filter_for(params, "other_arm") == Where()


def test_what_is_new_for_a_target_is_what_its_filter_asks_for(place: Place) -> None:
    place.version("1", 6, place.state().digest)
    assert place.state().new == 0
    text = Path(place.params_file).read_text().replace("task: pick", "task: pick\n    data: {where: {source: sim}}")
    Path(place.params_file).write_text(text)
    assert (place.state().usable, place.state().versioned) == (2, 0), "the version was made of other episodes"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"data": {"were": {}}}, "did you mean 'where'"),
        ({"data": {"where": {"instructions": []}}}, "did you mean 'instruction'"),
        ({"data": {"where": {"source": "robot"}}}, "'sim', 'teleop' or 'deployment'"),
        ({"evidence": []}, "at least 1 item"),
        ({"evidence": ["offline", "offline"]}, "names one kind twice"),
        ({"evidence": ["simulator"]}, "'simulation', 'offline' or 'robot'"),
    ],
)
def test_what_a_target_cannot_ask_for_is_named(target: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        asking(arm_params(), **target)
