"""What `posa doctor` says of the places that the settings name, in S3 and in directories."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from answering_servers import GOOD, Answer, Request, clear_environment, look, server
from s3_server import s3_server


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with s3_server() as address:
        import boto3

        boto3.client("s3").create_bucket(Bucket="bucket")
        yield address


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", GOOD)
    return moto


def keys() -> list[str]:
    import boto3

    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="bucket").get("Contents", [])]


def test_places_in_s3_are_tried_and_left_as_they_were(s3: str) -> None:
    found = look(storage="s3://bucket/storage", dvc_remote="s3://bucket", channel="s3://bucket/channel/")
    assert [found[name].status for name in ("storage", "DVC remote", "channel", "clock", "secrets")] == ["sound"] * 5
    assert "POSA_CHANNEL" in found["channel"].detail
    assert "; conditional writes" in found["channel"].detail
    assert found["Prefect"].status == "absent"
    assert keys() == []


def test_missing_bucket_is_told(s3: str) -> None:
    found = look(channel="s3://nobody/channel")
    assert found["channel"].status == "unsound"
    assert "s3://nobody/channel (POSA_CHANNEL)" in found["channel"].detail
    assert "NoSuchBucket" in found["channel"].detail


def test_store_that_ignores_conditions_will_do_with_one_publisher(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_condition(request: Request) -> Answer:
        method, path, headers, body = request
        connection = http.client.HTTPConnection(urlsplit(s3).netloc)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("if-none-match", "expect")}
        connection.request(method, path, body, kept)
        answer = connection.getresponse()
        passed = {name: answer.headers[name] for name in ("Content-Type", "ETag") if name in answer.headers}
        return answer.status, passed, answer.read()

    with server(without_condition) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        found = look(channel="s3://bucket/channel", storage="s3://bucket/storage")
    assert found["channel"].status == found["storage"].status == "sound"
    assert "one publisher at a time must hold its lock" in found["channel"].detail
    assert "publisher" not in found["storage"].detail
    monkeypatch.undo()
    assert keys() == []


@pytest.mark.parametrize(
    ("status", "code", "message", "told"),
    [
        (403, "AccessDenied", "Access Denied.", "no permission"),
        (403, "InvalidAccessKeyId", "No such key.", "wrong credentials"),
        (403, "SignatureDoesNotMatch", "Check your key.", "wrong credentials"),
        (403, "RequestTimeTooSkewed", "Too far.", "clock"),
        (507, "XMinioStorageFull", "Minimum free drive threshold.", "the store is full"),
        (500, "InternalError", "write /data: no space left on device", "the store is full"),
        (500, "InternalError", "We encountered an error.", "see its log"),
    ],
)
def test_errors_of_s3_name_their_remedy(
    s3: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str, message: str, told: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    with server(lambda request: (status, {}, body)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        found = look(storage="s3://bucket/storage")
    assert found["storage"].status == "unsound"
    assert code in found["storage"].detail
    assert told in found["storage"].detail


def test_s3_without_credentials_names_their_variables(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = look(storage="s3://bucket/storage")
    assert "AWS_ACCESS_KEY_ID" in found["storage"].detail
    assert found["storage"].status == "unsound"


def test_directories_and_misspelt_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = look(storage=str(tmp_path / "later"), dvc_remote=str(tmp_path / "file"), channel="gs://bucket")
    assert [found[name].status for name in ("storage", "DVC remote", "channel")] == ["sound", "unsound", "unsound"]
    assert "expected a directory or s3://BUCKET/PREFIX" in found["channel"].detail
