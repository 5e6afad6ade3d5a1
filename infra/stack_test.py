"""Brings the whole stack up under a project of its own, retrains through the deployment, and takes everything down.

Run by `make stack-test`; `LOCAL_IMAGES=1` builds every image on this machine, where no registry can be reached.
Needs Docker with Compose v2 (2.26 or newer), and chromium for the pictures of both pages.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from typing import Any

from trial_pages import browser, mlflow_page, prefect_page
from trial_stack import FINAL, Stack, trial_stack, wait_for

_RETRAIN, _REPORT = 600.0, 120.0


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
    run = stack.start_run("retrain/default", {"preset": "tiny"})
    wait_for("the retraining's end", _RETRAIN, lambda: stack.run_state(run) in FINAL)
    state = stack.run_state(run)
    if state != "Completed":
        raise SystemExit(f"the retraining ended as {state}: docker compose -p posa-test logs prefect-worker")
    rows.append(("retraining, preset tiny, by its deployment", f"{time.monotonic() - start:.0f} s"))
    seconds = wait_for("the robot's report", _REPORT, lambda: bool(stack.report().get("release")))
    rows.append(
        ("robot reports the release, after its end", f"{seconds:.0f} s: {json.dumps(stack.report()['release'])}")
    )
    robot = stack.start_run("evaluate-robot/default", {"episodes": 2})
    wait_for("the robot's episodes", _RETRAIN, lambda: stack.run_state(robot) in FINAL)
    if (state := stack.run_state(robot)) != "Completed":
        raise SystemExit(f"the robot's episodes ended as {state}: docker compose -p posa-test logs robot-worker")
    rows.append(("2 episodes on the robot, by its deployment", state))
    doctor = json.loads(stack.compose("exec", "-T", "prefect-worker", "posa", "doctor", "--json"))
    if not doctor["sound"]:
        raise SystemExit(f"posa doctor: {json.dumps(doctor, indent=1)}")
    rows.append(("posa doctor", "sound"))
    return rows + pages(stack, run) + memory()


def pages(stack: Stack, run: str) -> list[tuple[str, str]]:
    """What the APIs answer to their secrets, and what the pages show to who logs in."""
    mlflow, prefect = (f"http://127.0.0.1:{stack.ports[name]}" for name in ("MLFLOW_PORT", "PREFECT_PORT"))
    password, secret = stack.secret("MLFLOW_PASSWORD"), stack.secret("PREFECT_AUTH")
    answer = ask(f"{mlflow}/api/2.0/mlflow/registered-models/search", f"admin:{password}")
    models = [model["name"] for model in answer["registered_models"]]
    version = ask(f"{prefect}/api/admin/version", secret)
    with browser() as opened:
        seen = [
            mlflow_page(opened, mlflow, "admin", password, f"#/models/{models[0]}", "champion"),
            mlflow_page(opened, mlflow, "admin", password, "#/experiments", models[0]),
            prefect_page(opened, prefect, secret, "deployments", "propose-retraining"),
            prefect_page(opened, prefect, secret, f"runs/flow-run/{run}?tab=Artifacts", "retrain-attention"),
        ]
    return [
        ("MLflow's API with its secret", ", ".join(models)),
        ("Prefect's API with its secret", f"version {version}"),
        ("pages looked at", ", ".join(seen)),
    ]


def main() -> None:
    """Tries the stack, prints the table, and leaves nothing behind."""
    with trial_stack() as (stack, cold):
        rows = [("cold start until all are healthy", f"{cold:.0f} s"), *try_stack(stack)]
    width = max(len(what) for what, _ in rows)
    print("\n".join(f"{what:{width}}  {value}" for what, value in rows))


if __name__ == "__main__":
    main()
