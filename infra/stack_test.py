"""Brings the whole stack up under a project of its own, retrains through the deployment, and takes everything down.

Run by `make stack-test`; `LOCAL_IMAGES=1` builds every image on this machine, where no registry can be reached.
Needs Docker with Compose v2 (2.26 or newer), and chromium for the pictures of both pages.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "build" / "stack-test"
_COLD_START, _RETRAIN, _REPORT = 600.0, 600.0, 120.0
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
        self._command = ["docker", "compose", "-p", "posa-test", "--env-file", str(self._env)]
        for name in files:
            self._command += ["-f", str(ROOT / name)]

    def secret(self, name: str) -> str:
        """A value of the environment file."""
        lines = dict(line.split("=", 1) for line in self._env.read_text().splitlines() if "=" in line)
        return lines[name]

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Runs `docker compose`; returns its standard output."""
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(
                f"docker compose {' '.join(arguments[:3])} exited {done.returncode}:\n{done.stderr[-2000:]}"
            )
        return done.stdout

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

    def start_run(self, deployment: str, parameters: dict[str, object]) -> str:
        """Starts a run of a deployment; returns its id."""
        program = (
            "from prefect.deployments import run_deployment\n"
            f"print(run_deployment({deployment!r}, parameters={parameters!r}, timeout=0).id)"
        )
        return self.python(program).split()[-1]

    def run_state(self, run: str) -> str:
        """Name of a run's state."""
        program = (
            "from prefect.client.orchestration import get_client\n"
            f"with get_client(sync_client=True) as client: print(client.read_flow_run({run!r}).state_name)"
        )
        return self.python(program).strip().splitlines()[-1]

    def report(self) -> dict[str, object]:
        """What the robot has reported last; empty for nothing yet."""
        program = (
            "from posa_vla.objects import open_objects\n"
            "print((open_objects('s3://posa-robots').get('reports/sim-1/latest.json') or b'{}').decode())"
        )
        document: dict[str, object] = json.loads(self.python(program))
        return document


def wait_for(what: str, seconds: float, question: object) -> float:
    """Asks until the answer is true; returns the seconds that it took."""
    start = time.monotonic()
    assert callable(question)
    while not question():
        if time.monotonic() - start > seconds:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(2)
    return time.monotonic() - start


def page(name: str, url: str, expected: str) -> str:
    """Opens a page in chromium, keeps a picture of it, and looks for a text in what it shows."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no browser: sudo apt-get install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    base = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,900",
        "--virtual-time-budget=20000",
    ]
    dom = subprocess.run([*base, "--dump-dom", url], capture_output=True, text=True, timeout=120).stdout
    picture = PICTURES / f"{name}.png"
    subprocess.run([*base, f"--screenshot={picture}", url], capture_output=True, timeout=120, check=True)
    if expected not in dom:
        raise SystemExit(f"page {name}: expected {expected!r} in what {url.rpartition('@')[2]} shows; see {picture}")
    return str(picture.relative_to(ROOT))


def ask(url: str, login: str) -> Any:
    """The JSON answer of a server with basic auth."""
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return json.load(answer)


def memory() -> list[tuple[str, str]]:
    """Memory of each container."""
    command = ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(
        (f"memory {line.split()[0].removeprefix('posa-test-').removesuffix('-1')}", line.split()[1])
        for line in lines
        if line.startswith("posa-test-")
    )


def try_stack(stack: Stack) -> list[tuple[str, str]]:
    """The whole trial; returns the rows of its table."""
    rows = []
    start = time.monotonic()
    stack.compose("up", "-d", *([] if not os.environ.get("LOCAL_IMAGES") else ["--no-build"]))
    wait_for("all services healthy", _COLD_START, stack.sound)
    rows.append(("cold start until all are healthy", f"{time.monotonic() - start:.0f} s"))
    start = time.monotonic()
    run = stack.start_run("retrain/default", {"preset": "tiny"})
    final = ("Completed", "Failed", "Crashed", "Cancelled")
    wait_for("the retraining's end", _RETRAIN, lambda: stack.run_state(run) in final)
    state = stack.run_state(run)
    if state != "Completed":
        raise SystemExit(f"the retraining ended as {state}: docker compose -p posa-test logs prefect-worker")
    rows.append(("retraining, preset tiny, by its deployment", f"{time.monotonic() - start:.0f} s"))
    seconds = wait_for("the robot's report", _REPORT, lambda: bool(stack.report().get("release")))
    rows.append(
        ("robot reports the release, after its end", f"{seconds:.0f} s: {json.dumps(stack.report()['release'])}")
    )
    run = stack.start_run("evaluate-robot/default", {"episodes": 2})
    wait_for("the robot's episodes", _RETRAIN, lambda: stack.run_state(run) in final)
    rows.append(("2 episodes on the robot, by its deployment", stack.run_state(run)))
    doctor = json.loads(stack.compose("exec", "-T", "prefect-worker", "posa", "doctor", "--json"))
    rows.append(("posa doctor", "sound" if doctor["sound"] else "unsound"))
    mlflow, prefect = (f"http://127.0.0.1:{stack.ports[name]}" for name in ("MLFLOW_PORT", "PREFECT_PORT"))
    login = f"admin:{stack.secret('MLFLOW_PASSWORD')}"
    models = ask(f"{mlflow}/api/2.0/mlflow/registered-models/search", login)["registered_models"]
    rows.append(("MLflow's API with its secret", ", ".join(model["name"] for model in models)))
    # A page whose address holds the credentials may not fetch; that it is served is all that is looked at here.
    rows.append(("MLflow's page", page("mlflow", mlflow.replace("//", f"//{login}@"), "Experiments")))
    version = ask(f"{prefect}/api/admin/version", stack.secret("PREFECT_AUTH"))
    rows.append(("Prefect's API with its secret", f"version {version}"))
    rows.append(("Prefect's page", page("prefect", prefect, "Prefect")))
    return rows + memory()


def main() -> None:
    """Tries the stack, prints the table, and leaves nothing behind."""
    if os.environ.get("LOCAL_IMAGES"):
        subprocess.run([ROOT / "infra/local_images.sh"], check=True)
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name))
        try:
            rows = try_stack(stack)
        except SystemExit:
            print(json.dumps(stack.services(), indent=1), file=sys.stderr)
            print(stack.compose("logs", "--tail", "30", check=False)[-8000:], file=sys.stderr)
            raise
        finally:
            stack.compose("down", "-v", "--timeout", "20", check=False)
    width = max(len(what) for what, _ in rows)
    print("\n".join(f"{what:{width}}  {value}" for what, value in rows))


if __name__ == "__main__":
    main()
