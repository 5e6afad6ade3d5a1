"""What `posa doctor` says of servers: a real S3 server, and servers whose answers are at fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from answering_servers import GOOD, Answer, Request, at_paths, clear_environment, look, nowhere, server, silence

from posa_vla.cli.doctor import servers as doctor_servers
from posa_vla.cli.doctor.servers import examine_servers
from posa_vla.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)


def test_nothing_configured_is_one_finding_and_no_fault() -> None:
    (finding,) = examine_servers(Settings())
    assert (finding.name, finding.status) == ("servers", "absent")


def test_servers_that_fit_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str | None] = {}
    right = {
        "/api/health": True,
        "/api/admin/version": version("prefect"),
        "/api/2.0/mlflow/experiments/search": {"experiments": []},
        "/api/version": {"ray_version": version("ray")},
    }

    def answer(request: Request) -> Answer:
        _, path, headers, _ = request
        seen[path] = headers.get("Authorization")
        return 200, {}, version("mlflow").encode() if path == "/version" else json.dumps(right[path]).encode()

    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"posa:{GOOD}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "posa")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", GOOD)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", GOOD)
    with server(answer) as url:
        found = look(prefect_api_url=f"{url}/api", mlflow_tracking_uri=url, ray_address=url)
    sound = [name for name, finding in found.items() if finding.status == "sound"]
    assert sound[:3] == ["Prefect", "MLflow", "Ray"], found
    assert found["clock"].status == "sound"
    basic = "Basic " + b64encode(f"posa:{GOOD}".encode()).decode()
    assert seen["/api/admin/version"] == seen["/api/2.0/mlflow/experiments/search"] == basic
    assert seen["/api/version"] == f"Bearer {GOOD}"


def test_refused_credentials_name_their_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_key-of-the-cloud")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "posa")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-this-one")
    with (
        server(at_paths(health=(200, True), version=(401, "Unauthorized"))) as prefect,
        server(at_paths(version=(200, version("mlflow").encode()), search=(401, "who?"))) as mlflow,
        server(at_paths(version=(403, b"Forbidden: Invalid authentication token"))) as ray,
    ):
        found = look(prefect_api_url=f"{prefect}/api", mlflow_tracking_uri=mlflow, ray_address=ray)
    assert {found[name].status for name in ("Prefect", "MLflow", "Ray")} == {"unsound"}
    assert "PREFECT_API_AUTH_STRING is not set" in found["Prefect"].detail
    assert "unset PREFECT_API_KEY" in found["Prefect"].detail
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are not known" in found["MLflow"].detail
    assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in found["Ray"].detail
    assert "not-this-one" not in str(found)


def test_folders_that_an_mlflow_server_names_and_does_not_have_are_named(tmp_path: Path) -> None:
    places = {"Default": "/gone/too", "in-a-store": "s3://bucket/mlflow/1", "sim-pick": (tmp_path / "a b").as_uri()}
    experiments = [{"name": name, "artifact_location": place} for name, place in places.items()]
    with server(at_paths(version=(200, version("mlflow").encode()), search=(200, {"experiments": experiments}))) as url:
        lost = look(mlflow_tracking_uri=url)["MLflow"]
        (tmp_path / "a b").mkdir()
        found = look(mlflow_tracking_uri=url)["MLflow"]
    assert (lost.status, found.status) == ("unsound", "sound")
    assert f"names {tmp_path / 'a b'} for the files of experiment 'sim-pick' (1 such)" in lost.detail
    assert "ln -s" in lost.detail
    assert "folders of its machine" in found.detail


def test_host_that_mlflow_does_not_serve_is_named() -> None:
    refusal = (403, b"Invalid Host header - possible DNS rebinding attack detected")
    with server(at_paths(version=(200, version("mlflow").encode()), search=refusal)) as url:
        found = look(mlflow_tracking_uri=url)
    assert found["MLflow"].status == "unsound"
    assert f"the name {urlsplit(url).netloc}" in found["MLflow"].detail
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in found["MLflow"].detail


def test_other_versions_are_unsound_where_they_matter() -> None:
    major, minor, patch = version("ray").split(".")
    with (
        server(at_paths(health=(200, True), version=(200, "2.1.0"))) as prefect,
        server(at_paths(version=(200, b"1.0.0"))) as mlflow,
        server(at_paths(version=(200, {"ray_version": f"{major}.{minor}.{int(patch) + 1}"}))) as ray,
    ):
        found = look(prefect_api_url=f"{prefect}/api", mlflow_tracking_uri=mlflow, ray_address=ray)
    assert {found[name].status for name in ("Prefect", "MLflow", "Ray")} == {"unsound"}
    assert "runs 2.1.0, expected 3." in found["Prefect"].detail
    assert f"expected {version('ray')}" in found["Ray"].detail


def test_a_patch_level_of_prefect_and_mlflow_does_not_matter() -> None:
    def other_patch(package: str) -> str:
        return ".".join([*version(package).split(".")[:2], "99"])

    with (
        server(at_paths(health=(200, True), version=(200, other_patch("prefect")))) as prefect,
        server(at_paths(version=(200, other_patch("mlflow").encode()), search=(200, {}))) as mlflow,
    ):
        found = look(prefect_api_url=f"{prefect}/api", mlflow_tracking_uri=mlflow)
    assert found["Prefect"].status == found["MLflow"].status == "sound"


def test_pages_at_an_address_are_no_server() -> None:
    with server(lambda request: (200, {}, b"<html>Welcome</html>")) as url:
        found = look(prefect_api_url=url, mlflow_tracking_uri=url, ray_address=url)
    assert all("<html>Welcome</html>" in found[name].detail for name in ("Prefect", "MLflow", "Ray"))
    assert "http://HOST:4200/api" in found["Prefect"].detail


@pytest.mark.parametrize(("seconds", "told"), [(3600, "behind Prefect"), (-3600, "ahead of Prefect"), (30, "within")])
def test_clock_that_is_far_off_is_unsound(seconds: int, told: str) -> None:
    date = formatdate(time.time() + seconds, usegmt=True)
    with server(lambda request: (503, {"Date": date}, b"")) as url:
        found = look(prefect_api_url=f"{url}/api")
    assert found["clock"].status == ("sound" if abs(seconds) < 60 else "unsound")
    assert told in found["clock"].detail


def test_address_of_the_wrong_kind_says_what_is_expected() -> None:
    found = look(ray_address="ray://head:10001", prefect_api_url="head:4200", mlflow_tracking_uri="sqlite:///m.db")
    assert [found[name].status for name in ("Ray", "Prefect", "MLflow")] == ["unsound", "unsound", "absent"]
    assert "expected http://HOST:PORT" in found["Ray"].detail


def test_credentials_in_an_address_are_not_shown() -> None:
    found = look(
        ray_address=f"http://posa:{GOOD}@head:port",  # pragma: allowlist secret
        mlflow_tracking_uri=f"postgresql://posa:{GOOD}@db/mlflow",  # pragma: allowlist secret
        prefect_api_url=nowhere().replace("http://", f"http://posa:{GOOD}@"),
    )
    assert [found[name].status for name in ("Ray", "MLflow", "Prefect")] == ["unsound", "absent", "unsound"]
    assert GOOD not in str(found)


@pytest.mark.parametrize(("limit", "told"), [("READ", "no answer within"), ("_DEADLINE", "not done within")])
def test_silent_server_is_given_up_in_time(limit: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_servers, limit, 0.3)
    with silence() as url:
        found = look(prefect_api_url=f"{url}/api")
    assert found["Prefect"].status == "unsound"
    assert told in found["Prefect"].detail


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PREFECT_API_AUTH_STRING", "admin:pass", "shorter than 8"),
        ("PREFECT_API_AUTH_STRING", "admin:MinioAdmin", "a well-known default"),
        ("MLFLOW_TRACKING_PASSWORD", "password1234", "a well-known default"),
        ("RAY_AUTH_TOKEN", "", "empty"),
        ("AWS_SECRET_ACCESS_KEY", "k3j2h1", "shorter than 8"),
    ],
)
def test_weak_secrets_are_named_and_not_shown(
    name: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", GOOD)
    monkeypatch.setenv(name, value)
    found = look(channel=str(tmp_path))
    assert found["secrets"].status == "unsound"
    assert f"{name} is {told}" in found["secrets"].detail
    assert not value or value not in str(found)


def test_credential_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "two\nlines-of-it")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "posa")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "gr\u20acen-of-it")
    with server(at_paths()) as url:
        found = look(ray_address=url, mlflow_tracking_uri=url)
    assert all("set them anew" in found[name].detail for name in ("Ray", "MLflow"))
    assert "of-it" not in str(found)


def test_doctor_with_all_servers_away_tells_them_without_a_traceback(tmp_path: Path) -> None:
    away = nowhere()
    variables = {
        "POSA_HOME": str(tmp_path / "home"),
        "POSA_PREFECT_API_URL": f"{away}/api",
        "POSA_MLFLOW_TRACKING_URI": away.replace("http://", f"http://posa:{GOOD}@"),
        "POSA_RAY_ADDRESS": away,
        "POSA_STORAGE": "s3://bucket/storage",
        "POSA_CHANNEL": "s3://bucket/channel",
        "AWS_ENDPOINT_URL_S3": away,
        "AWS_ACCESS_KEY_ID": "posa",
        "AWS_SECRET_ACCESS_KEY": GOOD,
    }
    command = [sys.executable, "-m", "posa_vla.cli.main", "doctor", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert GOOD not in done.stdout + done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    for name in ("Prefect", "MLflow", "Ray", "storage", "channel"):
        assert found[name]["status"] == "unsound", name
        assert "Connection refused" in found[name]["detail"], name
    assert found["clock"]["status"] == "absent"
