"""A stack of containers under a name of its own, for a script that tries something on it and takes it down again."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FINAL = ("Completed", "Failed", "Crashed", "Cancelled")
_COLD_START = 600.0
_ONE_SHOT = ("bootstrap-stores", "bootstrap")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """One project of containers with its own volumes, secrets and ports."""

    def __init__(self, folder: Path) -> None:
        """Writes the secrets into `folder`."""
        self._env = folder / "env"
        subprocess.run([ROOT / "infra/make_env.sh", self._env], check=True)
        self.ports = {name: free_port() for name in ("MLFLOW_PORT", "PREFECT_PORT", "RAY_PORT")}
        with self._env.open("a") as file:
            file.writelines(f"{name}={port}\n" for name, port in self.ports.items())
            file.write(f"PREFECT_UI_API_URL=http://127.0.0.1:{self.ports['PREFECT_PORT']}/api\n")
        files = ["docker-compose.yml"]
        if os.environ.get("LOCAL_IMAGES"):
            files.append("infra/compose.local-images.yml")
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": "posa-test",
            "COMPOSE_ENV_FILES": str(self._env),
            "COMPOSE_FILE": ":".join(str(ROOT / name) for name in files),
        }

    def secret(self, name: str) -> str:
        """A value of the environment file."""
        lines = dict(line.split("=", 1) for line in self._env.read_text().splitlines() if "=" in line)
        return lines[name]

    def set_secrets(self, **values: str) -> None:
        """Changes values of the environment file."""
        lines = dict(line.split("=", 1) for line in self._env.read_text().splitlines() if "=" in line)
        self._env.write_text("".join(f"{name}={value}\n" for name, value in {**lines, **values}.items()))

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command that is about this stack; returns its standard output."""
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(f"{' '.join(command[:5])} exited {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Runs `docker compose`; returns its standard output."""
        return self.run("docker", "compose", *arguments, check=check)

    def services(self) -> dict[str, str]:
        """State of each service: `healthy`, `running`, `exited 0`, ..."""
        states = {}
        for line in self.compose("ps", "-a", "--format", "json").splitlines():
            row = json.loads(line)
            state = f"exited {row['ExitCode']}" if row["State"] == "exited" else row["Health"] or row["State"]
            states[row["Service"]] = state
        return states

    def sound(self) -> bool:
        """Whether every service is healthy, and the one-shot ones are done."""
        states = self.services()
        wanted = self.compose("config", "--services").split()
        return all(states.get(name) == ("exited 0" if name in _ONE_SHOT else "healthy") for name in wanted)

    def python(self, program: str) -> str:
        """Runs a program in the platform's image, with its settings."""
        return self.compose("exec", "-T", "prefect-worker", "python", "-c", program)

    def prefect(self, path: str, body: object = None) -> Any:
        """What Prefect's API answers: a GET, or a POST of `body`.

        Raises:
            OSError: The server is away.
        """
        login = base64.b64encode(self.secret("PREFECT_AUTH").encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['PREFECT_PORT']}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def start_run(self, deployment: str, parameters: dict[str, object]) -> str:
        """Starts a run of a deployment; returns its id."""
        found = self.prefect(f"deployments/name/{deployment}")
        run = self.prefect(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def run_state(self, run: str) -> str:
        """Name of a run's state; `unknown` while the server is away."""
        try:
            return str(self.prefect(f"flow_runs/{run}")["state_name"])
        except OSError:
            return "unknown"

    def task_states(self, run: str) -> dict[str, str]:
        """States of a run's tasks by the tasks' names; empty while the server is away."""
        try:
            found = self.prefect("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        except OSError:
            return {}
        return {task["name"].rpartition("-")[0]: task["state_type"].capitalize() for task in found}

    def table(self, run: str, key: str) -> list[dict[str, Any]]:
        """Rows of a table that a run has left as an artifact."""
        wanted = {"flow_runs": {"id": {"any_": [run]}}, "artifacts": {"key": {"any_": [key]}}}
        found = self.prefect("artifacts/filter", wanted)
        rows: list[dict[str, Any]] = json.loads(found[0]["data"]) if found else []
        return rows

    def report(self) -> dict[str, Any]:
        """What the robot has reported last; empty for nothing yet."""
        program = (
            "from posa_vla.objects.contract import open_objects\n"
            "print((open_objects('s3://posa-robots').get('reports/sim-1/latest.json') or b'{}').decode())"
        )
        document: dict[str, Any] = json.loads(self.python(program))
        return document


def wait_for(what: str, seconds: float, question: Callable[[], bool]) -> float:
    """Asks until the answer is true; returns the seconds that it took."""
    start = time.monotonic()
    while not question():
        if time.monotonic() - start > seconds:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(2)
    return time.monotonic() - start


@contextmanager
def trial_stack() -> Iterator[tuple[Stack, float]]:
    """A stack that is up, and the seconds until all of it was healthy; nothing is left of it afterwards."""
    local = bool(os.environ.get("LOCAL_IMAGES"))
    if local:
        subprocess.run([ROOT / "infra/local_images.sh"], check=True)
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name))
        try:
            if not local:
                stack.compose("build")
            stack.compose("down", "-v", check=False)  # what a killed trial left has other secrets
            start = time.monotonic()
            stack.compose("up", "-d", "--no-build")
            wait_for("all services healthy", _COLD_START, stack.sound)
            yield stack, time.monotonic() - start
        except SystemExit:
            print(json.dumps(stack.services(), indent=1), file=sys.stderr)
            print(stack.compose("logs", "--tail", "30", check=False)[-8000:], file=sys.stderr)
            raise
        finally:
            stack.compose("down", "-v", "--timeout", "20", check=False)
