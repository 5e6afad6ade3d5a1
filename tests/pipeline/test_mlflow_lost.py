"""What people do on MLflow's page, and to its database, stops nothing that MLflow is not the truth of."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from candidates import Candidate, candidate, make_workspace
from untrained import arm_params

from posa_vla import artifact_places
from posa_vla.artifact_places import database_file
from posa_vla.errors import PosaError
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.reconciliation import reconcile_workspace
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.registry import CHAMPION, registered_version
from posa_vla.release.bundle import Bundle
from posa_vla.run_page import Source
from posa_vla.settings import Settings
from posa_vla.tracking import connect, open_run, run_address
from posa_vla.workspace import Workspace

SOURCE = Source("a run", "a test")
UNTIL_THE_END = 30.0


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def purge(uri: str, run_id: str) -> None:
    """What `mlflow gc` leaves of a deleted run."""
    path = database_file(uri)
    assert path is not None
    with closing(sqlite3.connect(path)) as database, database:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))


@contextmanager
def held(uri: str, seconds: float) -> Iterator[None]:
    """Another program writes to the database, for a while or until the block ends."""
    path = database_file(uri)
    assert path is not None
    holds, over = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            holds.set()
            over.wait(seconds)
            database.execute("ROLLBACK")

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(10)
    try:
        yield
        if seconds == UNTIL_THE_END:
            over.set()
    finally:
        thread.join()


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_what_was_deleted_is_restored(uri: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = f"deleted {what}"
    with open_run(uri, experiment, "k", SOURCE) as run:
        run.log_params({"steps": 3})
    client = connect(uri)

    def delete() -> None:
        if what == "run":
            client.delete_run(run.run_id)
        else:
            client.delete_experiment(client.get_run(run.run_id).info.experiment_id)

    delete()
    with open_run(uri, experiment, "k", SOURCE) as again:
        assert again.run_id == run.run_id
        assert "had been deleted: it is restored" in capsys.readouterr().err
        delete()  # while it is written to
        again.log_params({"more": 1})
        again.log_metrics(1, {"loss": 0.5})
        delete()  # before it ends
    found = client.get_run(run.run_id)
    assert (found.info.lifecycle_stage, found.info.status) == ("active", "FINISHED")
    assert found.data.params == {"steps": "3", "more": "1"}


def test_a_purged_run_is_begun_anew_and_ends_no_work(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_run(uri, "purged", "k", SOURCE) as run:
        purge(uri, run.run_id)
        with pytest.raises(PosaError, match=r"MLflow refused: .*run the same command again"):
            run.log_params({"steps": 3})
    assert "was not ended" in capsys.readouterr().err
    with open_run(uri, "purged", "k", SOURCE) as again:
        assert again.run_id != run.run_id
    assert run_address(uri, run.run_id) is None
    assert run_address(uri, again.run_id) is not None


def test_the_error_of_the_work_is_told_and_not_that_of_the_page(uri: str) -> None:
    def fail() -> None:
        with open_run(uri, "purged", "fails", SOURCE) as run:
            purge(uri, run.run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.long
def test_a_lock_is_waited_for_longer_than_sqlite_does_by_itself(uri: str) -> None:
    with open_run(uri, "locked", "k", SOURCE) as run, held(uri, 6.5):
        run.log_params({"steps": 3})
    assert connect(uri).get_run(run.run_id).data.params == {"steps": "3"}


@pytest.mark.long
def test_a_lock_that_does_not_end_is_one_message(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_places, "_WAIT", 0.2)
    with open_run(uri, "locked", "k", SOURCE) as run:
        with (
            held(uri, UNTIL_THE_END),
            pytest.raises(PosaError, match=r"held by another program.*run the same command again"),
        ):
            run.log_params({"steps": 3})
        run.log_params({"steps": 3})


def _delete_version(workspace: Workspace, client: Any) -> Workspace:
    client.delete_model_version("t", "1")
    return workspace


def _delete_model(workspace: Workspace, client: Any) -> Workspace:
    client.delete_registered_model("t")
    return workspace


def _purge_run(workspace: Workspace, client: Any) -> Workspace:
    purge(workspace.mlflow_uri, client.get_model_version("t", "1").run_id)
    return workspace


def _lose_database(workspace: Workspace, client: Any) -> Workspace:
    """In a copy: this process has the database open."""
    copy = workspace.home.with_name("copy")
    shutil.copytree(workspace.home, copy, ignore=shutil.ignore_patterns("mlflow"))
    return Workspace.open(Settings(home=copy))


LOSSES = [
    _delete_version,
    *(pytest.param(lose, marks=pytest.mark.long) for lose in (_purge_run, _delete_model, _lose_database)),
]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_release_outlives_what_mlflow_lost(tmp_path: Path, lose: Callable[[Workspace, Any], Workspace]) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        _, first = made.promote()
    assert first is not None
    log = promotion_log(workspace, "t").entries()
    workspace = lose(workspace, connect(workspace.mlflow_uri))
    with open_context(workspace, params, "test") as context:
        _, again = Candidate(context, Bundle(made.bundle.digest, workspace.bundles / made.bundle.digest)).promote()
    assert again is not None
    assert (again.release, again.record) == (first.release, first.record)
    assert promotion_log(workspace, "t").entries() == log
    version = again.registered.model_version
    bundle = registered_version(workspace.mlflow_uri, "t", version).bundle
    assert bundle == made.bundle.digest
    # The alias shows the bundle's version, and stays so.
    found = [f for f in reconcile_workspace(workspace, params) if f.what.startswith("alias")]
    assert [f.sound for f in found] == [True]
    assert str(connect(workspace.mlflow_uri).get_model_version_by_alias("t", CHAMPION).version) == version
