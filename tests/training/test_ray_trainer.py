"""The same training on Ray: metrics arrive, a dead worker is replaced, the key decides what is repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from local_ray import local_ray
from s3_server import s3_server
from training_params import quick_params

from posa_vla.errors import PosaError
from posa_vla.model.posa_policy import load_policy
from posa_vla.objects.open import open_objects
from posa_vla.objects.trees import get_tree, put_tree
from posa_vla.params import Params
from posa_vla.policy.made_for import made_for, said_execution
from posa_vla.ray_cluster import RayCluster, ray_cluster
from posa_vla.settings import Settings
from posa_vla.training.job import TrainingJob
from posa_vla.training.storage import all_metrics, policy_path, training_path

KEY = "k" * 64


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    with s3_server() as url:
        import boto3

        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="storage")
        yield


@pytest.fixture
def ray_here(s3: None) -> Iterator[None]:
    with local_ray():
        yield


@pytest.fixture(scope="module")
def cluster(s3: None) -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # a processor without bf16
        patch.setenv("ATEN_CPU_CAPABILITY", "avx2")
        with ray_cluster(Settings()) as running:
            yield running
            end = time.monotonic()
    assert time.monotonic() - end < 20, "Ray waits for the actor that a training leaves"


def job_of(storage: str, params: Params) -> TrainingJob:
    return TrainingJob(storage=storage, data="data/v1", folder=training_path(KEY), params=params)


@pytest.mark.long
def test_more_processors_than_the_cluster_has_are_not_waited_for_for_ever(ray_here: None) -> None:
    from posa_vla.training.ray_trainer import await_processors

    await_processors(2, 1, patience=0)
    with pytest.raises(PosaError, match=r"has 2 processors, and train.workers=3 .* takes 3: add nodes"):
        await_processors(3, 1, patience=0)
    await_processors(2, 1, patience=0)


@pytest.mark.long
def test_training_survives_a_worker_that_is_killed(
    ray_here: None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.training import ray_trainer

    marker = tmp_path / "died"
    worker = ray_trainer._worker

    def dies_once(config: dict[str, object]) -> None:
        import os
        from pathlib import Path

        from posa_vla.training.loop import Trainer

        advance = Trainer.advance

        def deadly(self: Trainer) -> dict[str, float] | None:
            if self.step == 26 and not Path(str(marker)).exists():
                Path(str(marker)).touch()
                os._exit(1)
            return advance(self)

        Trainer.advance = deadly  # type: ignore[method-assign]  # the fault
        worker(config)

    monkeypatch.setattr(ray_trainer, "_worker", dies_once)
    objects = open_objects(str(tmp_path / "storage"))
    put_tree(objects, data, "data/v1")
    # The row of step 20 waits for others when the checkpoint of step 25 is made.
    job = job_of(objects.location, quick_params(workers=2, steps=30, checkpoint_steps=25))
    ray_trainer.train(job)
    assert marker.exists(), "the worker was killed"
    policy = get_tree(objects, policy_path(KEY), tmp_path)
    assert load_policy(policy, "d").horizon == 8
    rows = list(all_metrics(objects, KEY))
    assert [step for step, _ in rows] == [10, 20, 30], "none is lost, none is repeated"
    assert "validation_action" in rows[-1][1]
    assert not objects.list(f"{training_path(KEY)}/ray/"), "checkpoints of a finished training are of no use"

    monkeypatch.setattr(ray_trainer, "_worker", lambda config: pytest.fail("trained again"))
    ray_trainer.train(job)


def test_a_job_trains_with_nothing_but_the_bucket_between_us(cluster: RayCluster, data: Path, tmp_path: Path) -> None:
    from posa_vla.ray_jobs import Jobs
    from posa_vla.training.submit import train_as_job

    rows: dict[int, dict[str, float]] = {}
    params = quick_params(workers=1, precision="auto")
    place = (open_objects("s3://storage/posa"), data, "v1", params, KEY, tmp_path / "cache")
    jobs = Jobs(cluster)
    folder = train_as_job(jobs, *place, rows.__setitem__)
    assert folder.is_relative_to(tmp_path / "cache")
    assert load_policy(folder, "d").horizon == 8
    assert [(step, row["bf16"]) for step, row in rows.items()] == [(10, 0), (12, 0)], "the shell's instructions count"
    again = train_as_job(jobs, *place, lambda step, metrics: pytest.fail("trained again"))
    assert again == folder


def test_a_training_by_hand_keeps_its_policy_and_how_it_is_run(
    cluster: RayCluster, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posa_vla.cli.train import train
    from posa_vla.ray_jobs import Jobs

    params = quick_params(workers=1)
    (tmp_path / "params.yaml").write_text(params.model_dump_json())  # JSON is YAML
    monkeypatch.setenv("POSA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("posa_vla.ray_jobs.open_jobs", lambda *_, **__: nullcontext(Jobs(cluster)))
    train(data=data, out=tmp_path / "out", params_file=tmp_path / "params.yaml", as_json=True)
    policy = tmp_path / "out" / "policy"
    assert load_policy(policy, "d").horizon == 8
    assert said_execution(policy) == made_for(params, params.model.flow_steps)
