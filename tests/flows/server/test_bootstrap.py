"""What a stack needs before its first run: made once, unchanged by a second call, and clear where a server says no."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from candidates import make_workspace
from moto.core import set_initial_no_auth_action_count
from s3_server import s3_server

from flows.server.bootstrap import ensure_bucket, ensure_databases, ensure_stores, ensure_trust
from posa_vla.errors import BadInput, PosaError
from posa_vla.processes import free_port
from posa_vla.release.publisher import Publisher
from posa_vla.release.trust import read_trust
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

PASSWORD = "three-words-and-9"  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTGRES_URL", "PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "POSA_BUCKETS", "POSA_TRUST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def s3() -> Iterator[Any]:
    with s3_server() as url:
        urllib.request.urlopen(f"{url}/moto-api/reset", b"", timeout=20).close()  # moto's buckets outlive its servers
        yield boto3.client("s3")


@pytest.fixture
def target_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two targets, in the parameter file of the folder that the bootstrap runs in."""
    names = ["another-pick", "sim-pick"]
    target = {"embodiment": "sim_arm6", "task": "pick", "approvals": 0}
    params = {"schema_version": 1, "target": "sim-pick", "targets": dict.fromkeys(names, target)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return names


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bucket_is_made_once_and_keeps_what_it_holds(s3: Any) -> None:
    assert ensure_bucket("posa-data") == "posa-data"
    (made,) = s3.list_buckets()["Buckets"]
    s3.put_object(Bucket="posa-data", Key="kept", Body=b"1")
    assert ensure_bucket("posa-data") == "posa-data"
    assert s3.list_buckets()["Buckets"] == [made]
    assert s3.get_object(Bucket="posa-data", Key="kept")["Body"].read() == b"1"


def test_a_bucket_is_made_in_the_configured_region(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    ensure_bucket("posa-data")
    assert s3.get_bucket_location(Bucket="posa-data")["LocationConstraint"] == "eu-central-1"


def test_refused_credentials_name_their_settings(s3: Any) -> None:
    s3.create_bucket(Bucket="posa-data")

    @set_initial_no_auth_action_count(0)
    def refused() -> None:
        with pytest.raises(BadInput, match=r"'posa-data'.*check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            ensure_bucket("posa-data")

    refused()


def test_a_bucket_that_may_not_be_made_is_bad_input(s3: Any) -> None:
    with pytest.raises(BadInput, match=r"S3 bucket 'ab'.*InvalidBucketName"):
        ensure_bucket("ab")


def test_an_s3_that_is_away_is_named_with_its_setting(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with monkeypatch.context() as patch:  # undone before the server's own variables are
        patch.setenv("AWS_ENDPOINT_URL_S3", away)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(PosaError, match=f"AWS_ENDPOINT_URL_S3.*'posa-data'.*{away}"):
            ensure_bucket("posa-data")


def test_each_target_gets_the_trust_of_its_robots_once(tmp_path: Path, target_names: list[str]) -> None:
    workspace, folder = make_workspace(tmp_path), tmp_path / "trust"
    assert ensure_trust(workspace, folder) == target_names
    publisher = Publisher(workspace.channel, workspace.keys)
    for name in target_names:
        root, trust = read_trust(folder / name)
        assert root == publisher.root_bytes()
        assert (trust.target, trust.publishers) == (name, [publisher.publisher_key()])
    trusts, keys = contents(folder), contents(workspace.keys)
    assert ensure_trust(workspace, folder) == target_names
    assert (contents(folder), contents(workspace.keys)) == (trusts, keys)

    shutil.rmtree(folder)
    ensure_trust(workspace, folder)
    assert contents(folder) == trusts, "what robots trust comes from the keys, which are kept"


def test_without_a_database_of_ones_own_nothing_is_done() -> None:
    assert ensure_databases("") == []


@pytest.mark.parametrize("missing", ["PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD"])
def test_a_password_that_is_not_set_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD"} - {missing}:
        monkeypatch.setenv(name, PASSWORD)
    with pytest.raises(BadInput, match=f"{missing} is not set"):
        ensure_databases(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{free_port()}/postgres")


def test_a_postgres_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD"):
        monkeypatch.setenv(name, PASSWORD)
    port = free_port()
    with pytest.raises(PosaError, match=rf"Postgres at 127.0.0.1:{port} \(setting POSTGRES_URL\)") as caught:
        ensure_databases(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres")
    assert PASSWORD not in str(caught.value)


def test_only_what_is_set_is_made(
    s3: Any, tmp_path: Path, target_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    assert ensure_stores(workspace) == {"databases": [], "buckets": [], "trust": []}
    assert not workspace.home.exists()
    monkeypatch.setenv("POSA_BUCKETS", "posa-data,posa-channel")
    monkeypatch.setenv("POSA_TRUST", str(tmp_path / "trust"))
    made = {"databases": [], "buckets": ["posa-data", "posa-channel"], "trust": target_names}
    assert ensure_stores(workspace) == made
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"posa-data", "posa-channel"}
