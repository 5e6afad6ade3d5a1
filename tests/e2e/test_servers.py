"""The loop on servers: Prefect, MLflow and S3 as processes, the flows started as deployments and run by a worker."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from posa_vla.processes import dies_with_parent, free_port

ROOT = Path(__file__).parents[2]
AUTH = f"admin:{secrets.token_hex(12)}"
BUCKETS = ("storage", "data", "channel", "posa-results", "mlflow")

STEPS = ["collect", "version", "train", "bundle", "offline", "evaluate", "decide", "register", "release", "robot"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def until(what: str, look: Callable[[], Any], seconds: float, log: Path) -> Any:
    """The first thing that `look` finds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := look():
                return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s; {log}:\n{log.read_text()[-3000:]}")


@contextmanager
def process(log: Path, environment: dict[str, str], *command: str) -> Iterator[None]:
    """A process and all that it starts, ended with the block."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )
    try:
        yield
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(3)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@dataclass
class Servers:
    """Servers on free ports, and the environment of whoever uses them."""

    folder: Path
    environment: dict[str, str]

    def posa(self, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "posa_vla.cli.main", *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def prefect(self, path: str, body: object = None, method: str | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.environment['POSA_PREFECT_API_URL']}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Basic {b64encode(AUTH.encode()).decode()}", "Content-Type": "application/json"},
            method=method,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # Prefect's answer while somebody else writes into its SQLite file: its own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def run(self, deployment: str, seconds: float, **parameters: object) -> str:
        """Starts a deployment as its form does, waits for the end, and returns the run's id."""
        found = self.prefect(f"deployments/name/{deployment}")
        run = str(self.prefect(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"])
        log = self.folder / "worker.log"
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(deployment, lambda: self.prefect(f"flow_runs/{run}")["state_type"] in final, seconds, log)
        state = self.prefect(f"flow_runs/{run}")["state"]
        assert state["type"] == "COMPLETED", f"{state['message']}\n{log.read_text()[-3000:]}"
        return run

    def switch(self, deployment: str, *, on: bool) -> None:
        """Switches a deployment's schedules, as people do on Prefect's page."""
        found = self.prefect(f"deployments/name/{deployment}")
        for row in found["schedules"]:
            self.prefect(f"deployments/{found['id']}/schedules/{row['id']}", {"active": on}, method="PATCH")

    def artifacts(self, run: str) -> dict[str, Any]:
        wanted = {"flow_runs": {"id": {"any_": [run]}}}
        return {found["key"]: found["data"] for found in self.prefect("artifacts/filter", wanted)}

    def chain(self, run: str) -> list[str]:
        """A run's tasks as its page draws them, each of which hangs on the one before it and on no other."""
        nodes = {node[0]: node[1] for node in self.prefect(f"flow_runs/{run}/graph-v2")["nodes"]}
        # Prefect names a parent as often as that parent itself had arguments; the page draws one line.
        parents = {name: {parent["id"] for parent in node["parents"]} for name, node in nodes.items()}
        assert all(len(found) <= 1 for found in parents.values()), parents
        order = [name for name, found in parents.items() if not found]
        assert len(order) == 1, "all tasks hang together"
        while following := [name for name, found in parents.items() if found == {order[-1]}]:
            order += following
        return [nodes[name]["label"].rpartition("-")[0] for name in order]

    def task_words(self, run: str) -> dict[str, str]:
        """What each task of a run shows in its row."""
        found = self.prefect("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {task["name"].rpartition("-")[0]: task["state_name"] for task in found}

    def objects(self, bucket: str) -> list[str]:
        s3 = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL_S3"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )
        return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Prefect with its password, MLflow, S3, all that the bootstrap makes, and a worker."""
    folder = tmp_path_factory.mktemp("servers")
    s3, mlflow, prefect = free_port(), free_port(), free_port()
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("POSA_", "PREFECT_", "MLFLOW_"))}
    environment = {
        **keep,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(12),
        "AWS_DEFAULT_REGION": "us-east-1",
        "POSA_HOME": str(folder / "home"),
        "POSA_CACHE": str(folder / "cache"),
        "POSA_STORAGE": "s3://storage",
        "POSA_DVC_REMOTE": "s3://data",
        "POSA_CHANNEL": "s3://channel",
        "POSA_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        "POSA_PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
        "POSA_BUCKETS": ",".join(BUCKETS),
        "POSA_TRUST": str(folder / "trust"),
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": "remote-file-system/posa-results",
    }
    there = {**environment, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_API_AUTH_STRING": AUTH}
    found = Servers(folder, environment)
    with ExitStack() as stack:

        def start(name: str, env: dict[str, str], *command: str) -> None:
            stack.enter_context(process(folder / f"{name}.log", env, *command))

        start("s3", environment, "moto.server", "-H", "127.0.0.1", "-p", str(s3))
        start("prefect", there, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect))
        until("S3", lambda: urllib.request.urlopen(environment["AWS_ENDPOINT_URL_S3"]), 60, folder / "s3.log")
        assert found.posa("bootstrap", "stores") == found.posa("bootstrap", "stores")
        store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", "s3://mlflow"]
        where = ["--host", "127.0.0.1", "--port", str(mlflow), "--workers", "1"]
        start("mlflow", environment, "mlflow", "server", *where, *store)
        until("Prefect", lambda: found.prefect("health"), 90, folder / "prefect.log")
        first = found.posa("bootstrap", "prefect")
        found.switch("reconcile/default", on=False)
        assert found.posa("bootstrap", "prefect") == first
        assert [row["active"] for row in found.prefect("deployments/name/reconcile/default")["schedules"]] == [False]
        until("MLflow", lambda: urllib.request.urlopen(f"http://127.0.0.1:{mlflow}/health"), 90, folder / "mlflow.log")
        start("worker", environment, "posa_vla.cli.main", "worker")
        yield found


def test_a_retraining_by_its_deployment_is_on_every_server(servers: Servers) -> None:
    run = servers.run("retrain/default", 400, preset="tiny", changes={"training_steps": 20})
    shown = servers.artifacts(run)
    assert {row["step"] for row in json.loads(shown["retrain-steps"])} >= {"train", "release", "robot"}
    assert "promote" in shown["retrain-verdict"]
    assert shown["retrain-attention"].startswith("data:image/png;base64,")
    assert servers.environment["POSA_MLFLOW_TRACKING_URI"] in shown["retrain-mlflow"]
    assert "/artifacts/report/report.html" in shown["retrain-report"]

    query = "mlflow/registered-models/alias?name=sim-pick&alias=champion"
    url = f"{servers.environment['POSA_MLFLOW_TRACKING_URI']}/api/2.0/{query}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        version = json.load(answer)["model_version"]
    assert version["version"] == "1"
    url = f"{servers.environment['POSA_MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/get?run_id={version['run_id']}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        params = {item["key"]: item["value"] for item in json.load(answer)["run"]["data"]["params"]}
    assert params["train.steps"] == "20"  # what the form changed

    assert any("/videos/" in name for name in servers.objects("mlflow"))
    assert "metadata/timestamp.json" in servers.objects("channel")
    assert servers.objects("posa-results")
    assert servers.objects("data")

    again = servers.run("retrain/default", 120, preset="tiny", changes={"training_steps": 20})
    assert {row["status"] for row in json.loads(servers.artifacts(again)["retrain-steps"])} == {"reused"}

    assert servers.chain(run) == STEPS
    assert servers.prefect(f"flow_runs/{run}")["name"] == "sim-pick, preset tiny, train.steps 20, data-v1"
    made, reused = servers.task_words(run), servers.task_words(again)
    assert (made["version"], made["release"]) == ("data-v1, 8 episodes", "release 1")
    assert reused == {name: f"{words}, reused" for name, words in made.items()}


def test_a_robot_takes_the_release_from_s3(servers: Servers) -> None:
    home = servers.folder / "robot"
    servers.posa("robot", "provision", "--home", str(home), "--trust", str(servers.folder / "trust" / "sim-pick"))
    command = ["--channel", "s3://channel", "--target", "sim-pick", "--driver", "simulated", "--once"]
    report = servers.posa("robot", "run", "--home", str(home), *command, "--episodes", "1")
    assert report["release"]["number"] == 1


@pytest.mark.long
def test_the_champion_is_evaluated_by_its_deployment(servers: Servers) -> None:
    run = servers.run("evaluate-sim/default", 120, episodes=1, seed=3)
    assert "Model version 1" in servers.artifacts(run)["evaluate-sim"]
