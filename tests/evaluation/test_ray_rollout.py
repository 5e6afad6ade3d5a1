"""Rollouts of a real policy in the simulator, in Ray actors of which one dies."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_ray import local_ray
from releases import flip
from untrained import arm_params, untrained_bundle

from posa_vla.cli.main import main
from posa_vla.errors import PosaError
from posa_vla.evaluation.job import RolloutJob
from posa_vla.evaluation.local import evaluate
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.suite import Suite
from posa_vla.model.posa_policy import load_policy
from posa_vla.objects.contract import Objects
from posa_vla.objects.open import open_objects
from posa_vla.objects.trees import put_tree
from posa_vla.params_file import write_params
from posa_vla.ray_cluster import RayCluster, ray_cluster
from posa_vla.release.bundle import Bundle
from posa_vla.schema import parse_json
from posa_vla.seeds import scene_seeds
from posa_vla.settings import Settings
from posa_vla.sim.gl import require_gl

PARAMS = arm_params()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    require_gl()
    return untrained_bundle(tmp_path_factory.mktemp("policy"), PARAMS)


@pytest.fixture
def ray_here() -> Iterator[None]:
    with local_ray():
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(Settings()) as running:
        yield running


def job_of(bundle: Bundle, objects: Objects, seeds: list[int]) -> RolloutJob:
    put_tree(objects, bundle.folder, f"bundles/{bundle.digest}")
    return RolloutJob(
        storage=objects.location,
        digest=bundle.digest,
        folder="evaluation",
        suite=Suite.of(PARAMS, seeds).model_copy(update={"flow_steps": PARAMS.model.flow_steps}),
    )


def test_rollouts_render_what_demonstrations_were_rendered_at_and_the_policy_fits_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    policy = load_policy(bundle.folder, bundle.digest, threads=1)
    larger = arm_params(collect={"image_size": 64})
    assert policy.config.image_size == larger.prepare.image_size == 32
    evidence = evaluate(policy, Suite.of(larger, scene_seeds(bundle.digest, 2)), tmp_path / "evaluation")
    assert evidence.complete()
    assert evidence.suite["image_size"] == 64


def evidence_of(objects: Objects) -> Evidence:
    return parse_json(Evidence, objects.get("evaluation/evidence.json") or b"", "evidence")


def test_actors_give_what_one_process_gives_although_one_dies(
    ray_here: None, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.evaluation import ray_rollout

    seeds = scene_seeds(bundle.digest, PARAMS.evaluate.episodes)
    marker, log, doomed, worker = tmp_path / "died", tmp_path / "log", seeds[1], ray_rollout.RolloutWorker

    class DiesOnce(worker):  # type: ignore[misc, valid-type]  # a class that is only known here
        def run(self, seeds: list[int], recorded: list[int]) -> Any:
            if doomed in seeds and not marker.exists():
                ended = [seed for seed in seeds if seed != doomed]
                marker.write_text(" ".join(map(str, ended)))
                super().run(ended, recorded)
                os._exit(1)
            with log.open("a") as file:
                file.write(" ".join(map(str, seeds)) + " ")
            return super().run(seeds, recorded)

    monkeypatch.setattr(ray_rollout, "RolloutWorker", DiesOnce)
    objects = open_objects(str(tmp_path / "ray"))
    ray_rollout.evaluate(job_of(bundle, objects, seeds))
    there = evidence_of(objects)
    assert there.complete()
    ended, later = marker.read_text().split(), log.read_text().split()
    assert sorted([*ended, *later]) == sorted(map(str, seeds)), "what had ended before its actor died is not run again"
    policy = load_policy(bundle.folder, bundle.digest, threads=1)
    here = evaluate(policy, Suite.of(PARAMS, seeds), tmp_path / "local")
    assert [r.scene_seed for r in there.rows] == [r.scene_seed for r in here.rows] == seeds
    for mine, theirs in zip(here.rows, there.rows, strict=True):
        assert (mine.success, mine.steps) == (theirs.success, theirs.steps)
        assert mine.path_length == pytest.approx(theirs.path_length, rel=1e-3)
    assert len(objects.list("evaluation/videos/")) == 1


@pytest.mark.long
def test_a_scene_that_kills_its_actor_twice_has_no_outcome(
    ray_here: None, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.evaluation import ray_rollout

    seeds = scene_seeds(bundle.digest, 2)
    worker = ray_rollout.RolloutWorker

    class Dies(worker):  # type: ignore[misc, valid-type]  # a class that is only known here
        def run(self, asked: list[int], recorded: list[int]) -> Any:
            if seeds[0] in asked:
                os._exit(1)
            return super().run(asked, recorded)

    monkeypatch.setattr(ray_rollout, "RolloutWorker", Dies)
    objects = open_objects(str(tmp_path))
    ray_rollout.evaluate(job_of(bundle, objects, seeds))
    evidence = evidence_of(objects)
    assert [row.return_code for row in evidence.rows] == ["crashed", "ok"]
    assert not evidence.complete()


@pytest.mark.long
def test_a_scene_that_does_not_come_back_has_no_outcome(
    ray_here: None, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.evaluation import ray_rollout

    seeds = scene_seeds(bundle.digest, 2)
    worker = ray_rollout.RolloutWorker

    class Hangs(worker):  # type: ignore[misc, valid-type]  # a class that is only known here
        def run(self, asked: list[int], recorded: list[int]) -> Any:
            if seeds[0] in asked:
                threading.Event().wait()
            return super().run(asked, recorded)

    monkeypatch.setattr(ray_rollout, "RolloutWorker", Hangs)
    monkeypatch.setattr(ray_rollout, "_PATIENCE", 40.0)
    monkeypatch.setattr(ray_rollout, "_SLOWEST", 0.0)
    objects = open_objects(str(tmp_path))
    ray_rollout.evaluate(job_of(bundle, objects, seeds))
    assert [row.return_code for row in evidence_of(objects).rows] == ["policy-hangs", "ok"]


@pytest.mark.long
def test_a_job_continues_where_rows_are_there_already(cluster: RayCluster, bundle: Bundle, tmp_path: Path) -> None:
    from posa_vla.evaluation.submit import evaluate_as_job
    from posa_vla.ray_jobs import Jobs

    seeds = scene_seeds(bundle.digest, 3)
    objects = open_objects(str(tmp_path))
    place = (Suite.of(PARAMS, seeds), "evaluation")
    first = evaluate_as_job(Jobs(cluster), objects, bundle, *place)
    rows = {path: (tmp_path / path).stat().st_mtime_ns for path in objects.list("evaluation/rows/")}
    assert len(rows) == 3
    lost = next(iter(rows))
    (tmp_path / lost).unlink()
    again = evaluate_as_job(Jobs(cluster), objects, bundle, *place)
    assert again == first
    assert {p for p in rows if (tmp_path / p).stat().st_mtime_ns != rows[p]} == {lost}


@pytest.mark.fault
def test_a_policy_of_which_a_byte_has_flipped_gives_no_evidence(
    cluster: RayCluster, bundle: Bundle, tmp_path: Path
) -> None:
    from posa_vla.evaluation.submit import evaluate_as_job
    from posa_vla.ray_jobs import Jobs

    objects = open_objects(str(tmp_path))
    place = tmp_path / "bundles" / bundle.digest
    shutil.copytree(bundle.folder, place)
    put_tree(objects, place, f"bundles/{bundle.digest}")
    flip(place / "model.safetensors")
    suite = Suite.of(PARAMS, scene_seeds(bundle.digest, 2))
    with pytest.raises(PosaError, match="it was changed"):
        evaluate_as_job(Jobs(cluster), objects, Bundle(bundle.digest, place), suite, "evaluation")
    assert not objects.exists("evaluation/evidence.json")


def test_a_policy_is_not_judged_on_pictures_that_are_blown_up(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = arm_params(collect={"image_size": 64}, prepare={"image_size": 64}, model={**PARAMS.model.model_dump()})
    sharp = untrained_bundle(tmp_path / "sharp", fine)
    write_params(tmp_path / "params.yaml", PARAMS)
    place = ["--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out"), "--local"]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "sim", "--policy", str(sharp.folder), *place])
    assert stop.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is 64 and collect.image_size 32" in said
    assert "Set collect.image_size=64" in said
    assert not (tmp_path / "out" / "evidence.json").exists()
