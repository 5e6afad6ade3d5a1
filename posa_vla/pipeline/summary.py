"""What a retraining says of itself: for programs, for people, and for Prefect's page."""

from __future__ import annotations

from typing import Any

from posa_vla.ledger import StepResult


def summarise(
    steps: list[StepResult],
    data: dict[str, Any],
    trained: dict[str, Any],
    evaluated: dict[str, Any],
    decided: dict[str, Any],
    registered: dict[str, Any],
    released: dict[str, Any] | None,
    reported: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The document of `posa retrain --json`.

    `release` is null where nothing was released; `robot` then names what it runs, unchanged, with no episodes.
    """
    return {
        "steps": [{"name": s.name, "status": s.status, "seconds": round(s.seconds, 1)} for s in steps],
        "seconds": seconds,
        "data_version": data["version"],
        "training_seconds": trained["seconds"],
        "evaluation": evaluated["summary"],
        "decision": {"verdict": decided["verdict"], "reasons": decided["reasons"]},
        "model_version": registered["model_version"],
        "release": released["release"] if released else None,
        "pending": released["pending"] if released else None,
        "robot": reported,
    }


def step_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of steps."""
    return [{"step": s["name"], "status": s["status"], "seconds": s["seconds"]} for s in summary["steps"]]


def success_text(evaluation: dict[str, Any]) -> str:
    """Success rate with its interval, in words."""
    if evaluation["success_rate"] is None:
        return f"unknown: {evaluation['episodes']} valid episodes"
    rate, low, high = (100 * evaluation[name] for name in ("success_rate", "ci_low", "ci_high"))
    return f"{rate:.0f} % of {evaluation['episodes']} unseen scenes (95 % interval {low:.0f} to {high:.0f} %)"


def verdict_markdown(summary: dict[str, Any]) -> str:
    """The verdict for Prefect's page."""
    reasons = "\n".join(f"- {reason}" for reason in summary["decision"]["reasons"])
    lines = [f"- {name}: {value}" for name, value in table_rows(summary) if name not in {"verdict", "look"}]
    return f"# {summary['decision']['verdict']}\n\n{reasons}\n\n" + "\n".join(lines) + "\n"


def _robot_text(summary: dict[str, Any]) -> str:
    robot = summary["robot"]
    runs = f"release {robot['release']}" if robot["release"] is not None else "nothing yet"
    if summary["release"] is not None:
        return f"runs {runs}: {robot['successes']} of {robot['episodes']} episodes succeeded"
    return f"unchanged, runs {runs}; {summary['pending'] or 'nothing was released'}"


def table_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The short table at the end of `posa retrain`."""
    reused = sum(step["status"] == "reused" for step in summary["steps"])
    verdict = summary["decision"]
    return [
        ("data version", str(summary["data_version"])),
        ("training", f"{summary['training_seconds']:.0f} s"),
        ("success", success_text(summary["evaluation"])),
        ("verdict", "; ".join([verdict["verdict"], *verdict["reasons"]])),
        ("model version", str(summary["model_version"])),
        ("robot", _robot_text(summary)),
        ("steps", f"{len(summary['steps'])}, {reused} of them reused, {summary['seconds']:.0f} s in all"),
        ("look", "posa ui"),
    ]
