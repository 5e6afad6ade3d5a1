"""S3 that drops connections, answers 500 or 503, or is slow: data arrive whole, or it is said that they did not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import boto3
import pytest
from data_workspaces import copy_of, data_params, take_in
from lerobot_datasets import make_v21
from s3_server import s3_server

from posa_vla.dataset.versions.checkout import checkout
from posa_vla.dataset.versions.clone import open_clone
from posa_vla.dataset.versions.verify import verify
from posa_vla.errors import PosaError
from posa_vla.pipeline.incoming import at_hand
from posa_vla.pipeline.ingestion import Dataset, ingest_dataset
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@contextmanager
def spoilt(endpoint: str, how: str, every: int) -> Iterator[str]:
    """An endpoint that goes through a process which spoils every so many connections."""
    place = urlparse(endpoint)
    program = str(Path(__file__).with_name("faulty_proxy.py"))
    command = [sys.executable, program, str(place.hostname), str(place.port), how, str(every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield address


LONG = [pytest.param(how, marks=pytest.mark.long) for how in ("500", "503", "slow")]


@pytest.mark.parametrize("how", ["drop", *LONG])
def test_a_version_goes_through_a_bad_network_and_comes_back(endpoint, tmp_path, monkeypatch, how):
    remote = f"s3://bucket/{how}"
    with spoilt(endpoint, how, every=5) as bad:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bad)
        workspace = Workspace.open(Settings(home=tmp_path / "home", dvc_remote=remote))
        for _ in range(5):
            try:
                made = take_in(workspace, make_v21(tmp_path / "one"))
                break
            except PosaError:
                continue  # the remote gave up on it; the same call goes on where it was
        else:
            pytest.fail("five calls did not get the data through")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    report = verify(workspace)
    assert (report["ok"], report["version"]) == (True, made.data_version)
    # Everything here is lost: it comes back from the remote, through the same network.
    subprocess.run(["rm", "-rf", str(workspace.dvc_cache), str(workspace.store), str(workspace.data)], check=True)
    with spoilt(endpoint, how, every=5) as bad:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bad)
        for _ in range(5):
            try:
                checkout(workspace, "data-v1")
                break
            except PosaError:
                continue
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    assert verify(workspace)["ok"]


def test_a_dataset_in_s3_is_taken_in(endpoint, tmp_path):
    folder = make_v21(tmp_path / "one", video=False)
    client = boto3.client("s3")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        client.upload_file(str(path), "bucket", f"datasets/one/{path.relative_to(folder).as_posix()}")
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    made = ingest_dataset(workspace, data_params(), Dataset("s3://bucket/datasets/one", tmp_path))
    assert (made.accepted, made.quarantined, made.new) == (3, 0, 3)
    again = ingest_dataset(workspace, data_params(), Dataset("s3://bucket/datasets/one/", tmp_path))
    assert (again.new, again.data_version) == (0, made.data_version)
    assert not list((workspace.home / "incoming").iterdir())


def away(workspace: Workspace, remote: str) -> Workspace:
    return Workspace.open(Settings(home=workspace.home, dvc_remote=remote))


@pytest.fixture
def no_s3(monkeypatch) -> None:
    """An S3 endpoint where nobody listens."""
    settings = {"ENDPOINT_URL_S3": "http://127.0.0.1:9", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Workspace:
    workspace = Workspace.open(Settings(home=tmp_path_factory.mktemp("away") / "home"))
    take_in(workspace, make_v21(workspace.home.parent / "one", video=False))
    return workspace


def test_with_everything_in_the_cache_no_remote_is_needed(whole, no_s3):
    subprocess.run(["rm", "-rf", str(whole.store)], check=True)
    assert checkout(away(whole, "s3://bucket/away"), "data-v1")["restored"]
    assert verify(whole)["ok"]


NOWHERE = r"\(POSA_DVC_REMOTE\).*the same command continues"


@pytest.mark.parametrize(
    ("remote", "reason"),
    [
        ("unmounted", "as if it were not mounted"),
        pytest.param("s3://bucket/away", "Could not connect", marks=pytest.mark.long),
    ],
)
def test_a_remote_that_is_away_is_named_with_its_reason(whole, tmp_path, no_s3, remote, reason):
    copy = copy_of(whole, tmp_path)
    subprocess.run(["rm", "-rf", str(copy.dvc_cache)], check=True)
    place = remote if "://" in remote else str(tmp_path / remote)
    with pytest.raises(PosaError, match=NOWHERE) as caught:
        checkout(away(copy, place), "data-v1")
    assert reason in str(caught.value)


@pytest.mark.long
def test_a_push_that_fails_says_where_to_and_why(whole, tmp_path, no_s3):
    (tmp_path / "file").write_bytes(b"")
    for remote, reason in ((str(tmp_path / "file"), "Not a directory"), ("s3://bucket/away", "Could not connect")):
        with open_clone(away(whole, remote)) as clone, pytest.raises(PosaError, match=NOWHERE) as caught:
            clone.push()
        assert reason in str(caught.value)


def test_nobody_else_fetches_or_removes_while_what_was_fetched_is_read(endpoint, tmp_path):
    boto3.client("s3").put_object(Bucket="bucket", Key="datasets/held/meta/info.json", Body=b"{}")
    workspace = Workspace.open(Settings(home=tmp_path / "home"))
    program = (
        "import sys, pathlib\nfrom posa_vla.settings import Settings\nfrom posa_vla.workspace import Workspace\n"
        "from posa_vla.errors import Busy\nworkspace = Workspace.open(Settings(home=pathlib.Path(sys.argv[1])))\n"
        "try:\n    workspace.lock('another ingestion', 'incoming.lock').__enter__()\n"
        "except Busy as error:\n    sys.exit(str(error))\n"
    )
    other = [sys.executable, "-c", program, str(workspace.home)]
    with at_hand(workspace, "s3://bucket/datasets/held") as folder:
        assert (folder / "meta/info.json").is_file()
        refused = subprocess.run(other, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "an ingestion from S3" in refused.stderr
    assert subprocess.run(other).returncode == 0
    assert not folder.exists()
