"""Kills every service of the stack during retrainings, at two stages each, and prints what was seen.

`make stack-survival`, with `LOCAL_IMAGES=1` where no registry can be reached; takes about half an hour. Exits 1 where a
retraining neither ended well nor was finished by the same form again, or where anything was done twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trial_stack import FINAL, Stack, trial_stack, wait_for

# Neighbours are killed at the same stage of the same retraining, one after the other.
SERVICES = (
    "postgres", "redis", "s3", "mlflow", "prefect-server", "prefect-services",
    "ray-head", "ray-worker", "robot-station", "robot-worker", "prefect-worker",
)  # fmt: skip
# The task during which a service is killed, and how long that task has been going then (s).
STAGES = {"train": 8.0, "evaluate": 4.0}
_DOWN_SECONDS = 10.0
_STAGE, _END, _HEALTHY, _REPORT = 300.0, 600.0, 300.0, 180.0
# A run whose process is gone is known as such after at most the longest silence and the interval of `reconcile`.
_CLOSED = 660.0
# Long enough to be hit in its middle, and a gate that lets every candidate out: each retraining is to end in a release.
_SETTINGS = ["train.steps=60", "targets.sim-pick.gate.margin=0.99", "targets.sim-pick.gate.confidence=0.51"]


@dataclass
class Trial:
    """One retraining during which services were killed.

    Attributes:
        kills: Service and stage of each.
        first: How the retraining itself ended.
        again: How the same form again ended, each time; empty where that was not needed.
        repeated: Finished steps that the second run did anew.
        versions: Model versions that came.
        releases: Releases that came.
    """

    kills: list[str] = field(default_factory=list)
    first: str = ""
    again: str = ""
    repeated: list[str] = field(default_factory=list)
    versions: int = 0
    releases: int = 0
    seconds: float = 0.0

    @property
    def survived(self) -> bool:
        """One model version, one release, nothing twice."""
        ended = (self.again or self.first).endswith("Completed")
        return ended and not self.repeated and self.versions == self.releases == 1


def plan() -> list[dict[str, list[str]]]:
    """Which services are killed at which stage of each retraining: every service once at every stage."""
    pairs = [list(SERVICES[i : i + 2]) for i in range(0, len(SERVICES), 2)]
    later = pairs[2:] + pairs[:2]
    return [dict(zip(STAGES, chosen, strict=True)) for chosen in zip(pairs, later, strict=True)]


def counts(stack: Stack) -> tuple[int, int]:
    """Model versions in the registry, and promotions in the log."""
    program = (
        "import mlflow, os\n"
        "from posa_vla.promotion.champion import promotion_log\n"
        "from posa_vla.workspace import Workspace\n"
        "mlflow.set_tracking_uri(os.environ['POSA_MLFLOW_TRACKING_URI'])\n"
        "versions = mlflow.MlflowClient().search_model_versions(\"name='sim-pick'\")\n"
        "entries = promotion_log(Workspace.open(), 'sim-pick').entries()\n"
        "print(len(versions), sum(entry.kind == 'promote' for entry in entries))"
    )
    versions, releases = stack.python(program).split()[-2:]
    return int(versions), int(releases)


def kill_during(stack: Stack, run: str, stage: str, service: str) -> str:
    """Kills a service while a task of the run is going, starts it again, and waits until all is healthy."""
    seen = 0.0

    def reached() -> bool:
        nonlocal seen
        states = stack.task_states(run)
        if states.get(stage) == "Running":
            seen = seen or time.monotonic()
            return time.monotonic() - seen >= STAGES[stage]
        return states.get(stage) == "Completed" or stack.run_state(run) in FINAL

    wait_for(f"stage {stage}", _STAGE, reached)
    running = stack.task_states(run).get(stage) == "Running"
    stack.compose("kill", "-s", "SIGKILL", service)
    time.sleep(_DOWN_SECONDS)
    stack.compose("start", service)
    wait_for(f"all healthy after {service}", _HEALTHY, stack.sound)
    return f"{service} at {stage}" if running else f"{service} after {stage}"


def retrain(stack: Stack, seed: int, kills: dict[str, list[str]]) -> Trial:
    """One retraining with its kills, and the same form again where it did not end well."""
    trial, start = Trial(), time.monotonic()
    before = counts(stack)
    form: dict[str, Any] = {"preset": "tiny", "changes": {"training_seed": seed, "settings": _SETTINGS}}
    run = stack.start_run("retrain/default", form)
    runs = [run]
    for stage, services in kills.items():
        for service in services:
            trial.kills.append(kill_during(stack, runs[-1], stage, service))
            if service == "prefect-worker" and stack.run_state(runs[-1]) not in FINAL:
                runs.append(stack.start_run("retrain/default", form))  # its process is gone: as a person would
    wait_for("the retraining's end", _END, lambda: stack.run_state(runs[-1]) in FINAL)
    if stack.run_state(runs[-1]) != "Completed":
        runs.append(stack.start_run("retrain/default", form))
        wait_for("the second run's end", _END, lambda: stack.run_state(runs[-1]) in FINAL)
    if len(runs) > 1:
        wait_for("the dead run's end", _CLOSED, lambda: stack.run_state(run) in FINAL)
        statuses = {row["step"]: row["status"] for row in stack.table(runs[-1], "retrain-steps")}
        finished = {name for name, state in stack.task_states(run).items() if state == "Completed"}
        trial.repeated = sorted(name for name in finished if statuses.get(name) != "reused")
        trial.again = ", ".join(stack.run_state(later) for later in runs[1:])
    trial.first = stack.run_state(run)
    after = counts(stack)
    trial.versions, trial.releases = after[0] - before[0], after[1] - before[1]
    wait_for("the robot's report", _REPORT, lambda: (stack.report().get("release") or {}).get("number") == after[1])
    trial.seconds = time.monotonic() - start
    return trial


def table(trials: list[Trial]) -> str:
    """Markdown: one row for each retraining."""
    rows = [
        "| Killed | The run | Same form again | Finished steps repeated | Versions | Releases | s |",
        "|" + "---|" * 7,
    ]
    rows += [
        f"| {', '.join(t.kills)} | {t.first} | {t.again or 'not needed'} | {', '.join(t.repeated) or 'none'} "
        f"| {t.versions} | {t.releases} | {t.seconds:.0f} |"
        for t in trials
    ]
    return "\n".join(rows)


def main() -> None:
    """Tries everything, prints the table, and leaves nothing behind."""
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731  # one line
    with trial_stack() as (stack, cold):
        say(f"all healthy after {cold:.0f} s")
        trials = []
        for seed, kills in enumerate(plan(), start=1):
            trials.append(retrain(stack, seed, kills))
            say(f"{seed}/{len(plan())}: {trials[-1]}")
    print(table(trials))
    if not all(trial.survived for trial in trials):
        sys.exit(1)


if __name__ == "__main__":
    main()
