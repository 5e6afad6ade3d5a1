"""Rollouts of a real policy in the simulator, in Ray actors of which one dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from untrained import arm_params, untrained_bundle

from posa_vla.evaluation.rollout import evaluate, scene_seeds
from posa_vla.model.posa_policy import load_policy
from posa_vla.ray_cluster import ray_session
from posa_vla.release.bundle import Bundle
from posa_vla.settings import Settings
from posa_vla.sim.gl import require_gl

PARAMS = arm_params()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    require_gl()
    return untrained_bundle(tmp_path_factory.mktemp("policy"), PARAMS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(Settings()):
        yield


def test_actors_give_what_one_process_gives_although_one_dies(
    cluster: None, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.evaluation import ray_rollout

    seeds = scene_seeds(bundle.digest, PARAMS.evaluate.episodes)
    marker, doomed, worker = tmp_path / "died", seeds[1], ray_rollout.RolloutWorker

    class DiesOnce(worker):  # type: ignore[misc, valid-type]  # a class that is only known here
        def run(self, seed: int, record: bool) -> Any:
            if seed == doomed and not marker.exists():
                marker.touch()
                os._exit(1)
            return super().run(seed, record)

    monkeypatch.setattr(ray_rollout, "RolloutWorker", DiesOnce)
    place = ("sim_arm6", "pick", seeds, PARAMS.evaluate, PARAMS.collect.image_size)
    there = ray_rollout.evaluate_on_ray(bundle.folder, bundle.digest, *place, tmp_path / "ray")
    assert marker.exists()
    assert there.complete()
    here = evaluate(load_policy(bundle.folder, bundle.digest, threads=1), *place, tmp_path / "local")
    assert [r.scene_seed for r in there.rows] == [r.scene_seed for r in here.rows] == seeds
    for mine, theirs in zip(here.rows, there.rows, strict=True):
        assert (mine.success, mine.steps) == (theirs.success, theirs.steps)
        assert mine.path_length == pytest.approx(theirs.path_length, rel=1e-3)
    assert len(list((tmp_path / "ray" / "videos").glob("*.mp4"))) == 1


def test_a_scene_that_kills_its_actor_twice_has_no_outcome(
    cluster: None, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.evaluation import ray_rollout

    seeds = scene_seeds(bundle.digest, 2)
    worker = ray_rollout.RolloutWorker

    class Dies(worker):  # type: ignore[misc, valid-type]  # a class that is only known here
        def run(self, seed: int, record: bool) -> Any:
            if seed == seeds[0]:
                os._exit(1)
            return super().run(seed, record)

    monkeypatch.setattr(ray_rollout, "RolloutWorker", Dies)
    evidence = ray_rollout.evaluate_on_ray(
        bundle.folder,
        bundle.digest,
        "sim_arm6",
        "pick",
        seeds,
        PARAMS.evaluate,
        PARAMS.collect.image_size,
        tmp_path,
    )
    assert [row.return_code for row in evidence.rows] == ["crashed", "ok"]
    assert not evidence.complete()
