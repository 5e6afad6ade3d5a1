"""The stack's files, without an engine: what is pinned, confined, watched and secret."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from posa_vla.cli.robot import app as robot_commands
from posa_vla.robot.settings import RobotSettings, read_settings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"bootstrap", "bootstrap-stores"}
OWN = {name for name, service in SERVICES.items() if "build" in service or "posa-vla" in service["image"]}


def test_every_image_is_pinned() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rstrip("}").rpartition(":")[2]
        assert tag not in {"", "latest"}, name
        assert tag == "local" or re.search(r"\d+\.\d+", tag), name


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_every_lasting_service_is_watched_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(OWN))
def test_own_images_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


def test_no_own_image_runs_as_root() -> None:
    stages = re.split(r"^FROM ", (ROOT / "infra/Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    for target in ("platform", "server", "robot"):
        stage = next(s for s in stages if s.splitlines()[0].endswith(f" AS {target}"))
        assert stage.rstrip().splitlines()[-1] == "USER posa", target


def test_ports_are_on_loopback_unless_asked() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in ports)


def test_a_secret_has_no_default_and_its_absence_names_make_stack() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN|AUTH|_KEY)\w*)([^}]*)\}?", TEXT)
    assert {name for name, _ in secrets} >= {"POSTGRES_PASSWORD", "PREFECT_AUTH", "RAY_TOKEN", "S3_SECRET_KEY"}
    asked = {name for name, rest in secrets if rest.startswith(":?not set - run make stack")}
    for name, rest in secrets:
        if rest.startswith(":-"):
            assert rest.startswith(":-${S3_"), f"{name} has the default {rest}"
        else:
            assert name in asked, f"{name} is never asked for"


def test_robots_get_neither_the_platforms_keys_nor_its_workspace() -> None:
    for name in ("robot-station", "robot-worker"):
        service = SERVICES[name]
        mounted = {volume.partition(":")[0] for volume in service["volumes"]}
        assert not mounted & {"workspace", "postgres", "s3"}
        assert "${S3_SECRET_KEY" not in str(service["environment"])
    assert "trust:/var/lib/posa-trust:ro" in SERVICES["robot-station"]["volumes"]


def test_the_robot_s_file_is_made_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES["robot-station"]
    for name, value in service["environment"].items():
        default = re.fullmatch(r"\$\{\w+:-(.*)\}", value)
        monkeypatch.setenv(name, default.group(1) if default else value)
    monkeypatch.setenv("POSA_TARGET", "bench pick")  # a word that a shell would split
    (script,) = service["command"][2:]
    commands = [shlex.split(command) for command in script.replace("$$", "$").split("&&")]
    commands = [[os.path.expandvars(word) for word in command if word != "exec"] for command in commands]
    assert commands[0] == ["cd", "/tmp"]
    assert [command[:3] for command in commands[2:]] == [
        ["posa", "robot", "init"],
        ["posa", "robot", "provision"],
        ["posa", "robot", "run"],
    ]
    file = commands[2][commands[2].index("--out") + 1]
    assert commands[1] == ["rm", "-f", file], "a container that is started again makes it anew"
    assert commands[3][3:] == ["--config", file, "--trust", "/var/lib/posa-trust/bench pick"]
    assert commands[4][3:] == ["--config", file]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(robot_commands, commands[2][2:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    own = read_settings(Path(file), {}).settings
    assert own == RobotSettings(
        home="/var/lib/posa-robot",
        channel="s3://posa-channel",
        target="bench pick",
        options={"task": "pick", "objects": 3},
        name="sim-1",
        episodes=0,
        interval=15,
        socket=SERVICES["robot-worker"]["environment"]["POSA_ROBOT_SOCKET"],
        reports="s3://posa-robots",
    )
    secrets = [value for name, value in service["environment"].items() if "KEY" in name]
    assert not [value for value in secrets if value in Path(file).read_text()]


def test_secrets_are_written_once_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "env"
    make = [str(ROOT / "infra/make_env.sh"), str(file)]
    subprocess.run(make, check=True)
    first = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    values = dict(line.split("=", 1) for line in first.splitlines() if "=" in line)
    asked = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert asked <= set(values)
    assert min(len(value) for value in values.values()) >= 16
    assert len(set(values.values())) == len(values)
    subprocess.run(make, check=True)
    assert file.read_text() == first
    file.write_text("RAY_TOKEN=chosen-by-a-person\n")
    subprocess.run(make, check=True)
    assert file.read_text().startswith("RAY_TOKEN=chosen-by-a-person\n")


def test_the_server_images_packages_agree_with_the_lock() -> None:
    def versions(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in (ROOT / name).read_text().splitlines():
            package, _, version = line.partition(" ;")[0].partition("==")
            if version and not line.startswith("#"):
                found.setdefault(package, set()).add(version)
        return found

    lock, server = versions("requirements.lock"), versions("infra/server.lock")
    assert server["mlflow"] == lock["mlflow"]
    # The lock holds one version of a package for each Python that it serves; the image's is one of them.
    assert {name for name in server if name in lock and not server[name] <= lock[name]} == set()
