"""The MLflow run of a retraining, on SQLite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from posa_vla.errors import PosaError
from posa_vla.params_file import flat
from posa_vla.run_page import Source
from posa_vla.tracking import RUN_KEY, connect, newest_page, open_run

ROOT = Path(__file__).parents[1]
SOURCE = Source("preset tiny on data-v1", "posa retrain", commit="c" * 40, dirty=False)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'store' / 'mlflow.db'}"


def test_a_key_is_one_run_that_takes_everything_once(uri: str) -> None:
    ids = set()
    for steps in ((10, 20), (20, 30)):  # a resumed training repeats a step
        with open_run(uri, "target", "k1", SOURCE) as run:
            ids.add(run.run_id)
            run.log_params({"train": {"steps": 30, "names": ["a"]}, "target": "t"})
            run.log_data("episodes", "d" * 64, {"remote": "here"}, {"frames": 9})
            for step in steps:
                run.log_metrics(step, {"loss": 1 / step})
            run.log_table("evidence", {"seed": [1, 2], "success": [True, False]})
            run.log_bytes(b"film", "videos/one.mp4")
            run.set_tags({"posa.verdict": "promote"})
    (run_id,) = ids
    client = connect(uri)
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"train.steps": "30", "train.names": '["a"]', "target": "t"}
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [
        (10, 0.1),
        (20, 0.05),
        (30, 1 / 30),
    ]
    assert found.inputs is not None
    (data,) = found.inputs.dataset_inputs
    assert data.dataset.digest == "d" * 36
    assert found.data.tags["posa.data_version"] == "d" * 64
    assert [f.path for f in client.list_artifacts(run_id, "videos")] == ["videos/one.mp4"]
    table = client.load_table(found.info.experiment_id, "tables/evidence.json", [run_id])
    assert list(table["seed"]) == [1, 2]


def test_a_run_says_in_words_and_in_mlflows_own_tags_where_it_comes_from(uri: str) -> None:
    with open_run(uri, "target", "source", SOURCE) as run:
        found = connect(uri).get_run(run.run_id)
    assert found.info.run_name == "preset tiny on data-v1"
    assert found.data.tags["mlflow.user"]
    assert found.data.tags["mlflow.source.name"] == "posa retrain"
    assert found.data.tags["mlflow.source.type"] == "LOCAL"
    assert found.data.tags["mlflow.source.git.commit"] == "c" * 40


def test_the_newest_experiment_opens_as_model_training_whoever_made_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert newest_page(uri, "http://here:5000") == "http://here:5000"
    client = connect(uri)
    old = client.create_experiment("target", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_run(client.create_experiment("somebody else's"))
    with open_run(uri, "target", "k", SOURCE) as run:
        page = run.page("report/report.html")
    assert client.get_experiment(old).tags["mlflow.experimentKind"] == "custom_model_development"
    training = "workflowType=machine_learning"
    assert newest_page(uri, "http://here:5000/") == f"http://here:5000/#/experiments/{old}/runs?{training}"
    assert page == f"#/experiments/{old}/runs/{run.run_id}/artifacts/report/report.html?{training}"


def test_another_key_is_another_run(uri: str) -> None:
    with open_run(uri, "target", "k2", SOURCE) as one, open_run(uri, "target", "k3", SOURCE) as other:
        assert one.run_id != other.run_id


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (PosaError, "FAILED")])
def test_how_a_run_ended_is_on_record(uri: str, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), open_run(uri, "target", status, SOURCE) as run:
        raise error
    assert connect(uri).get_run(run.run_id).info.status == status


@pytest.mark.fault
def test_a_killed_run_is_found_and_finished_by_the_next(uri: str) -> None:
    program = (
        "import os, signal, sys\nfrom posa_vla.run_page import Source\nfrom posa_vla.tracking import open_run\n"
        "with open_run(sys.argv[1], 'target', 'killed', Source('a run', 'a test')) as run:\n"
        "    run.log_metrics(1, {'loss': 2.0})\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, uri], cwd=ROOT, capture_output=True)
    assert done.returncode == -9
    client = connect(uri)
    experiment = client.get_experiment_by_name("target")
    assert experiment is not None
    query = f"tags.`{RUN_KEY}` = 'killed'"
    assert [r.info.status for r in client.search_runs([experiment.experiment_id], query)] == ["RUNNING"]
    with open_run(uri, "target", "killed", SOURCE) as run:
        run.log_metrics(1, {"loss": 3.0})
    assert [r.info.status for r in client.search_runs([experiment.experiment_id], query)] == ["FINISHED"]
    assert [m.value for m in client.get_metric_history(run.run_id, "loss")] == [2.0]


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PosaError, match="POSA_MLFLOW_TRACKING_URI"):
        connect("http://127.0.0.1:9")


def test_nested_parameters_become_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": "x"}) == {"a.b": "1", "a.c.d": "null", "e": "x"}
