"""The one MLflow run of a retraining: found by its key or made, fed from one process, whoever does the work."""

from __future__ import annotations

import functools
import io
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from posa_vla.artifact_places import artifact_place, database_file, follow_move, waiting
from posa_vla.console import say
from posa_vla.errors import PosaError
from posa_vla.params_file import flat
from posa_vla.run_page import Source, page_address

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
    address = waiting(uri)
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    try:
        client = mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        raise PosaError(f"MLflow at {uri} does not answer (setting POSA_MLFLOW_TRACKING_URI): {error}") from error
    return client


def _in_words(error: Exception) -> PosaError:
    again = "run the same command again, it continues"
    if "database is locked" in str(error):
        return PosaError(
            f"MLflow's database is held by another program, a backup perhaps, for a minute by now: {again}"
        )
    return PosaError(f"MLflow refused: {error}; {again}")


def _restore(client: mlflow.MlflowClient, run_id: str) -> bool:
    """Takes back a run that somebody deleted, alone or with its experiment; false where it was not deleted."""
    info = client.get_run(run_id).info
    if info.lifecycle_stage != LifecycleStage.DELETED:
        return False
    _restore_experiment(client, client.get_experiment(info.experiment_id))
    if client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_run(run_id)
    say(f"MLflow's run {run_id} had been deleted: it is restored")
    return True


def _restore_experiment(client: mlflow.MlflowClient, experiment: Experiment) -> None:
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
        say(f"MLflow's experiment {experiment.name!r} had been deleted: it is restored")


# What MLflow answers about a run that was deleted; a server that is away is not asked again.
_OF_A_STATE = {"INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _kept(method: Callable[Concatenate[TrackedRun, _P], _R]) -> Callable[Concatenate[TrackedRun, _P], _R]:
    """A method that a run takes as often as it is told, and that is done again on a run which had been deleted."""

    @functools.wraps(method)
    def call(run: TrackedRun, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            try:
                return method(run, *args, **kwargs)
            except MlflowException as error:
                if error.error_code not in _OF_A_STATE or not _restore(run.client, run.run_id):
                    raise
                return method(run, *args, **kwargs)
        except (MlflowException, SQLAlchemyError) as error:
            raise _in_words(error) from error

    return call


def _experiment(client: mlflow.MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        _restore_experiment(client, found)
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

    @_kept
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs nested parameters under dotted names."""
        known = self.client.get_run(self.run_id).data.params
        new = [Param(k, v[:_PARAM_LENGTH]) for k, v in flat(params).items() if k not in known]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.run_id, params=new[start : start + 100])

    @_kept
    def log_figures(self, figures: Mapping[str, float]) -> None:
        """Logs results; those of a later call are the ones that are shown."""
        stamp = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(name, value, stamp, 0) for name, value in figures.items()])

    @_kept
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

    @_kept
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

    @_kept
    def log_table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Logs a table, JSON below `tables/`, which the run's evaluation view shows."""
        path = f"tables/{name}.json"
        if all(item.path != path for item in self.client.list_artifacts(self.run_id, "tables")):
            self.client.log_table(self.run_id, dict(columns), path)

    @_kept
    def log_bytes(self, data: bytes, name: str) -> None:
        """Logs a file, a video or a picture, under its path among the run's artifacts."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / file
            path.write_bytes(data)
            self.client.log_artifact(self.run_id, str(path), folder or None)

    @_kept
    def log_once(self, data: bytes, name: str) -> None:
        """`log_bytes` of a file below a folder, which never changes: one that is there already stays."""
        if all(item.path != name for item in self.client.list_artifacts(self.run_id, name.rpartition("/")[0])):
            self.log_bytes(data, name)

    @_kept
    def log_text(self, text: str, name: str) -> None:
        """Logs a text file; shown as it is in the run's artifacts."""
        self.client.log_text(self.run_id, text, name)

    @_kept
    def log_picture(self, png: bytes, name: str) -> None:
        """Logs a picture that the page with the run's metrics shows among them; the newest of a name is shown."""
        self.client.log_image(self.run_id, Image.open(io.BytesIO(png)), key=name, step=0)

    @_kept
    def page(self, artifact: str = "") -> str:
        """Address of the run, or of one of its artifacts, within MLflow's pages."""
        return page_address(str(self.client.get_run(self.run_id).info.experiment_id), self.run_id, artifact)

    @_kept
    def describe(self, markdown: str) -> None:
        """Sets the text on the run's first page."""
        self.client.set_tag(self.run_id, "mlflow.note.content", markdown)

    @_kept
    def end(self, status: str) -> None:
        """Ends the run: `FINISHED`, `FAILED` or `KILLED`."""
        self.client.set_terminated(self.run_id, status)

    @_kept
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
    try:
        run_id = _found_or_made(client, uri, experiment, run_key, source)
    except (MlflowException, SQLAlchemyError) as error:
        raise _in_words(error) from error
    monitor: Any = SystemMetricsMonitor  # MLflow ships it without types
    monitor = monitor(run_id, sampling_interval=_SAMPLING, resume_logging=True, tracking_uri=waiting(uri))
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
        try:
            TrackedRun(client, run_id).end(status)
        except PosaError as error:  # what was done is done, and does not fail by its page
            say(f"warning: MLflow's run {run_id} was not ended: {error}")


def _found_or_made(client: mlflow.MlflowClient, uri: str, experiment: str, run_key: str, source: Source) -> str:
    """Id of the run of a key, running from now on; one that was deleted and is still there is restored."""
    experiment_id = _experiment(client, uri, experiment)
    for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY):
        found = client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'", view, max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            _restore(client, run_id)
            client.update_run(run_id, status="RUNNING")
            return run_id
    tags = {**source.tags(), RUN_KEY: run_key}
    return str(client.create_run(experiment_id, tags=tags, run_name=source.run_name).info.run_id)


def run_address(uri: str, run_id: str, artifact: str = "", server: str = "") -> str | None:
    """Address of a run's page, or of one of its artifacts; None, with a warning, where MLflow does not have it."""
    try:
        experiment = connect(uri).get_run(run_id).info.experiment_id
    except (MlflowException, PosaError) as error:
        say(f"warning: no page of MLflow's run {run_id}: {error}")
        return None
    return page_address(str(experiment), run_id, artifact, server=server)
