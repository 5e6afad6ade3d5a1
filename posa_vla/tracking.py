"""The one MLflow run of a retraining: found by its key or made, fed from one process, whoever does the work."""

from __future__ import annotations

import getpass
import io
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_DIRTY,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from posa_vla.artifact_places import artifact_place, database_file, follow_move
from posa_vla.console import say
from posa_vla.errors import PosaError
from posa_vla.params_file import flat

RUN_KEY = "posa.run_key"
# All parameters of a run, among its artifacts.
PARAMS_ARTIFACT = "params/params.json"
# MLflow's columns for a parameter's value and a dataset's digest hold this many characters.
_PARAM_LENGTH, _DIGEST_LENGTH = 6000, 36
# Seconds between samples of processor, memory and disk.
_SAMPLING = 10
# What MLflow's pages take an experiment for: since 3.5 they ask the address, or what the browser showed last (pages for
# language models at first), and no longer the tag; older ones ask the tag.
_KIND = ("mlflow.experimentKind", "custom_model_development")
_TRAINING_PAGES = "workflowType=machine_learning"


@dataclass(frozen=True)
class Source:
    """Where a new run comes from, as MLflow's page shows it.

    Attributes:
        run_name: In words.
        name: Command or flow that started it.
        on_server: Whether a server's worker ran it, and not a person on this machine.
        commit: Of the code; None where it is not known.
        dirty: Whether that code had been changed.
        about: Tags in words, which the page shows before all others.
    """

    run_name: str
    name: str
    on_server: bool = False
    commit: str | None = None
    dirty: bool | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """What is said in words, and MLflow's own tags."""
        tags = {
            **self.about,
            MLFLOW_USER: _user(),
            MLFLOW_SOURCE_NAME: self.name,
            MLFLOW_SOURCE_TYPE: "JOB" if self.on_server else "LOCAL",
        }
        if self.commit is not None:
            tags[MLFLOW_GIT_COMMIT] = self.commit
        if self.dirty is not None:
            tags[MLFLOW_GIT_DIRTY] = str(self.dirty).lower()
        return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user need not have a name
        return "unknown"


def page_address(experiment: str, run: str = "", artifact: str = "", server: str = "") -> str:
    """Address of an experiment, a run, or one of its artifacts, on MLflow's pages for model training.

    Args:
        experiment: Its id.
        run: Id of a run of it.
        artifact: Path of a file or folder among the run's artifacts.
        server: Address of the server; without it the address holds within its pages.
    """
    place = f"#/experiments/{experiment}/runs"
    if run:
        place += f"/{run}"
    if artifact:
        place += f"/artifacts/{artifact}"
    return f"{server.rstrip('/')}/{place}?{_TRAINING_PAGES}" if server else f"{place}?{_TRAINING_PAGES}"


def newest_page(uri: str, server: str) -> str:
    """Address of the experiment with the newest run of ours; of the server itself where there is none yet.

    Raises:
        PosaError: MLflow does not answer.
    """
    client = connect(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    mine = f"tags.`{RUN_KEY}` LIKE '%'"
    runs = client.search_runs(ids, mine, max_results=1, order_by=["attributes.start_time DESC"]) if ids else []
    return page_address(str(runs[0].info.experiment_id), server=server) if runs else server


def connect(uri: str) -> mlflow.MlflowClient:
    """A client of the tracking server and registry at `uri`, which MLflow's fluent calls then use as well.

    A database in a file that was moved is told so before MLflow opens it.

    Raises:
        BadInput: The database is damaged.
        PosaError: No answer.
    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    database = database_file(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        if follow_move(database):
            say(f"MLflow's database names its artifacts in {database.parent} from now on: it was moved there")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        raise PosaError(f"MLflow at {uri} does not answer (setting POSA_MLFLOW_TRACKING_URI): {error}") from error
    return client


def _experiment(client: mlflow.MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.tags.get(_KIND[0]) != _KIND[1]:
            client.set_experiment_tag(found.experiment_id, *_KIND)
        return str(found.experiment_id)
    database = database_file(uri)
    place = None if database is None else artifact_place(database, name)  # a server has its own place for artifacts
    return str(client.create_experiment(name, artifact_location=place, tags=dict([_KIND])))


class TrackedRun:
    """A run that takes everything as often as it is told: what it holds already is not added again."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._steps: dict[str, set[int]] = {}

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs nested parameters under dotted names."""
        known = self.client.get_run(self.run_id).data.params
        new = [Param(k, v[:_PARAM_LENGTH]) for k, v in flat(params).items() if k not in known]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.run_id, params=new[start : start + 100])

    def log_figures(self, figures: Mapping[str, float]) -> None:
        """Logs results; those of a later call are the ones that are shown."""
        stamp = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(name, value, stamp, 0) for name, value in figures.items()])

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs metrics of a step; one that a resumed training repeats stays as it was."""
        stamp = int(time.time() * 1000)
        new = [Metric(name, value, stamp, step) for name, value in metrics.items() if self._is_new(name, step)]
        if new:
            self.client.log_batch(self.run_id, metrics=new)

    def _is_new(self, name: str, step: int) -> bool:
        if name not in self._steps:
            self._steps[name] = {m.step for m in self.client.get_metric_history(self.run_id, name)}
        if step in self._steps[name]:
            return False
        self._steps[name].add(step)
        return True

    def log_data(self, name: str, version: str, source: Mapping[str, Any], profile: Mapping[str, Any]) -> None:
        """Logs a data version as the run's training data.

        Args:
            name: Of the data.
            version: Content hash; the tag `posa.data_version` holds all of it.
            source: Where it lies.
            profile: Its size.
        """
        self.client.set_tag(self.run_id, "posa.data_version", version)
        digest = version[:_DIGEST_LENGTH]
        inputs = self.client.get_run(self.run_id).inputs
        if inputs is not None and any(item.dataset.digest == digest for item in inputs.dataset_inputs):
            return
        dataset = Dataset(name, digest, "dvc", json.dumps(source), profile=json.dumps(profile))
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def log_table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Logs a table, JSON below `tables/`, which the run's evaluation view shows."""
        path = f"tables/{name}.json"
        if all(item.path != path for item in self.client.list_artifacts(self.run_id, "tables")):
            self.client.log_table(self.run_id, dict(columns), path)

    def log_bytes(self, data: bytes, name: str) -> None:
        """Logs a file, a video or a picture, under its path among the run's artifacts."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / file
            path.write_bytes(data)
            self.client.log_artifact(self.run_id, str(path), folder or None)

    def log_once(self, data: bytes, name: str) -> None:
        """`log_bytes` of a file below a folder, which never changes: one that is there already stays."""
        if all(item.path != name for item in self.client.list_artifacts(self.run_id, name.rpartition("/")[0])):
            self.log_bytes(data, name)

    def log_text(self, text: str, name: str) -> None:
        """Logs a text file; shown as it is in the run's artifacts."""
        self.client.log_text(self.run_id, text, name)

    def log_picture(self, png: bytes, name: str) -> None:
        """Logs a picture that the page with the run's metrics shows among them; the newest of a name is shown."""
        self.client.log_image(self.run_id, Image.open(io.BytesIO(png)), key=name, step=0)

    def page(self, artifact: str = "") -> str:
        """Address of the run, or of one of its artifacts, within MLflow's pages."""
        return page_address(str(self.client.get_run(self.run_id).info.experiment_id), self.run_id, artifact)

    def describe(self, markdown: str) -> None:
        """Sets the text on the run's first page."""
        self.client.set_tag(self.run_id, "mlflow.note.content", markdown)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags."""
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, value)


@contextmanager
def open_run(uri: str, experiment: str, run_key: str, source: Source) -> Iterator[TrackedRun]:
    """The run of a key, with system metrics while the block runs; then finished, failed, or killed (interrupted).

    A run whose process was killed stays `RUNNING`, and is found and continued by the next call with its key.

    Args:
        uri: Tracking server.
        experiment: Name; made where it is missing.
        run_key: Content key of what the run does.
        source: Where it comes from; a run that is there already keeps its own.

    Raises:
        PosaError: MLflow does not answer.
    """
    client = connect(uri)
    experiment_id = _experiment(client, uri, experiment)
    found = client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'", max_results=1)
    if found:
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
    else:
        tags = {**source.tags(), RUN_KEY: run_key}
        run_id = str(client.create_run(experiment_id, tags=tags, run_name=source.run_name).info.run_id)
    monitor: Any = SystemMetricsMonitor  # MLflow ships it without types
    monitor = monitor(run_id, sampling_interval=_SAMPLING, resume_logging=True, tracking_uri=uri)
    monitor.start()
    status = "KILLED"
    try:
        yield TrackedRun(client, run_id)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        monitor.finish()
        client.set_terminated(run_id, status)
