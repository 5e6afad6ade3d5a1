"""Brings the whole stack up under a project of its own, retrains through the deployment, and takes everything down.

Run by `make stack-test`; `LOCAL_IMAGES=1` builds every image on this machine, where no registry can be reached.
Needs Docker with Compose v2 (2.26 or newer), and chromium for the pictures of both pages.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from trial_pages import browser, mlflow_page, prefect_pages
from trial_stack import FINAL, Stack, trial_stack, wait_for

_RETRAIN, _REPORT = 600.0, 120.0


def ask(url: str, login: str, change: object = None) -> Any:
    """The JSON answer of a server with basic auth, to a question or, as PATCH, to a change."""
    headers = {
        "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
        "Content-Type": "application/json",
    }
    data, method = (None, "GET") if change is None else (json.dumps(change).encode(), "PATCH")
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


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
    rows += pages(stack, run) + memory()
    rows.append(("every secret rotated", rotated(stack)))
    rows.append(("removed and restored from a backup", restored(stack)))
    return rows


def same_retraining(stack: Stack) -> int:
    """Starts the retraining that was done already; returns the number of its steps, all of which must be reused."""
    run = stack.start_run("retrain/default", {"preset": "tiny"})
    wait_for("the retraining's end", _RETRAIN, lambda: stack.run_state(run) in FINAL)
    steps = {row["step"]: row["status"] for row in stack.table(run, "retrain-steps")}
    if set(steps.values()) != {"reused"}:
        raise SystemExit(f"the same retraining was not reused: {stack.run_state(run)}, {steps}")
    return len(steps)


def rotated(stack: Stack) -> str:
    """Changes every secret as docs/operations.md says, and works with the new ones."""
    start = time.monotonic()
    plain = "PREFECT_DB_PASSWORD MLFLOW_DB_PASSWORD REDIS_PASSWORD RAY_TOKEN MLFLOW_SECRET_KEY S3_SECRET_KEY"
    names = [*plain.split(), "S3_ROBOT_SECRET_KEY", "POSTGRES_PASSWORD", "MLFLOW_PASSWORD"]
    new = {**{name: secrets.token_hex(24) for name in names}, "PREFECT_AUTH": f"admin:{secrets.token_hex(24)}"}
    alter = f"alter user postgres password '{new['POSTGRES_PASSWORD']}'"
    stack.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-h", "/var/run/postgresql", "-c", alter)
    ask(
        f"http://127.0.0.1:{stack.ports['MLFLOW_PORT']}/api/2.0/mlflow/users/update-password",
        f"admin:{stack.secret('MLFLOW_PASSWORD')}",
        {
            "username": "admin",
            "current_password": stack.secret("MLFLOW_PASSWORD"),
            "password": new["MLFLOW_PASSWORD"],
        },
    )
    stack.set_secrets(**new)
    stack.compose("up", "-d", "--no-build")
    wait_for("all services healthy with new secrets", _RETRAIN, stack.sound)
    steps = same_retraining(stack)
    if not json.loads(stack.compose("exec", "-T", "prefect-worker", "posa", "doctor", "--json"))["sound"]:
        raise SystemExit("posa doctor is not content with the new secrets")
    return f"{time.monotonic() - start:.0f} s, posa doctor sound, the same retraining reuses all {steps} steps"


def restored(stack: Stack) -> str:
    """Backs the stack up, removes all of it, restores it, and asks it for what it knew."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        stack.run("infra/backup.sh", f"{name}/backup")
        size = sum(file.stat().st_size for file in Path(name, "backup").iterdir())
        stack.compose("down", "-v")
        stack.run("infra/restore.sh", f"{name}/backup")
    wait_for("all services healthy", _RETRAIN, stack.sound)
    steps = same_retraining(stack)
    return f"{size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s, the same retraining reuses all {steps} steps"


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
            *prefect_pages(opened, prefect, secret, run),
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
