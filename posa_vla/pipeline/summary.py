"""What a retraining says of itself: for programs, for people, and for Prefect's page."""

from __future__ import annotations

from typing import Any

from posa_vla.dataset.versions.record import DataVersion
from posa_vla.evidence.offline import OfflineFigures
from posa_vla.evidence.summary import Summary
from posa_vla.ledger import Status, StepResult
from posa_vla.pipeline.records import (
    Candidate,
    Collected,
    Decided,
    Evaluated,
    Registered,
    Released,
    RobotReport,
    RobotRun,
    Trained,
)
from posa_vla.promotion.gate import Verdict
from posa_vla.schema import Closed

Arrow = Collected | DataVersion | Trained | Candidate | Evaluated | Decided | Registered | Released | RobotRun
# First characters of a digest that stand for it where a person reads.
_SHORT = 12


class StepDone(Closed):
    """One step of a retraining.

    Attributes:
        name: Name of the step.
        status: `done` in this run or `reused` from an earlier one.
        seconds: Time spent in this run.
    """

    name: str
    status: Status
    seconds: float


class Ruling(Closed):
    """The gate's verdict.

    Attributes:
        verdict: See `posa_vla.promotion.gate.Decision`.
        reasons: The verdict in words, with the numbers.
    """

    verdict: Verdict
    reasons: list[str]

    @staticmethod
    def of(decided: Decided) -> Ruling:
        """What a retraining's gate said."""
        return Ruling(verdict=decided.verdict, reasons=decided.reasons)

    def in_words(self) -> str:
        """Verdict and reasons in a line."""
        return "; ".join([self.verdict, *self.reasons])


class RetrainingSummary(Closed):
    """The document of `posa retrain --json`.

    Attributes:
        steps: The steps, in their order.
        seconds: Time that the whole run took.
        data_version: Content hash of the training data.
        training_seconds: Time that the training took, whenever it was done.
        evaluation: The candidate's figures in simulation; None where the target asks for none.
        offline: Its errors on held-out episodes: no evidence of success.
        decision: The verdict on it.
        model_version: Version of the target's registered model.
        release: Number of the release; None where nothing was released.
        pending: What is missing for a release, in words, or None.
        robot: What the simulated robot runs; without a release unchanged, with no episodes.
    """

    steps: list[StepDone]
    seconds: float
    data_version: str
    training_seconds: float
    evaluation: Summary | None
    offline: OfflineFigures | None
    decision: Ruling
    model_version: str
    release: int | None
    pending: str | None
    robot: RobotReport


def summarise(
    steps: list[StepResult[Any]],
    trained: Trained,
    registered: Registered,
    released: Released | None,
    robot: RobotReport,
    seconds: float,
) -> RetrainingSummary:
    """What a retraining did; `robot` is what the simulated robot runs by now."""
    evaluated = registered.decided.evaluated
    return RetrainingSummary(
        steps=[StepDone(name=step.name, status=step.status, seconds=round(step.seconds, 1)) for step in steps],
        seconds=seconds,
        data_version=trained.data.version,
        training_seconds=trained.seconds,
        evaluation=evaluated.summary,
        offline=None if evaluated.offline is None else evaluated.offline.figures,
        decision=Ruling.of(registered.decided),
        model_version=registered.model_version,
        release=released.release if released else None,
        pending=released.pending if released else None,
        robot=robot,
    )


def made(record: Arrow) -> str:
    """What a step gave, in a few words."""
    match record:
        case Collected():
            return f"batch {record.batch[:_SHORT]}"
        case DataVersion():
            return f"{record.name}, {record.episodes} episodes"
        case Trained():
            return f"policy trained in {record.seconds:.0f} s"
        case Candidate():
            return f"bundle {record.digest[:_SHORT]}"
        case Evaluated():
            if record.summary is None:
                return _replayed(record)
            rate, scenes = record.summary.success_rate, record.summary.episodes
            return f"{scenes} valid episodes" if rate is None else f"{100 * rate:.0f} % of {scenes} scenes"
        case Decided():
            return record.verdict
        case Registered():
            return f"model version {record.model_version}"
        case Released():
            if record.release is not None:
                return f"release {record.release}"
            return "stays withdrawn" if record.record is None else "waits for approval"
        case RobotRun():
            return _robot_words(record.report)


def _replayed(evaluated: Evaluated) -> str:
    if evaluated.offline is None:
        return "not evaluated"
    figures = evaluated.offline.figures
    if figures.policy is None:
        return "nothing is held out" if not figures.episodes else "actions that are no numbers"
    return f"error {figures.policy:.3f} on {figures.episodes} held-out episodes"


def _robot_words(robot: RobotReport) -> str:
    runs = f"release {robot.release}" if robot.release is not None else "nothing yet"
    return f"runs {runs}: {robot.successes} of {robot.episodes} episodes succeeded"


def step_rows(summary: RetrainingSummary) -> list[dict[str, str | float]]:
    """Rows of the table of steps."""
    return [{"step": s.name, "status": s.status, "seconds": s.seconds} for s in summary.steps]


def verdict_markdown(summary: RetrainingSummary, report: str) -> str:
    """The verdict for Prefect's page; `report` is where the retraining's own page lies."""
    reasons = "\n".join(f"- {reason}" for reason in summary.decision.reasons)
    rows = [*table_rows(summary), ("report", f"`{report}`")]
    lines = [f"- {name}: {value}" for name, value in rows if name not in {"verdict", "look"}]
    return f"# {summary.decision.verdict}\n\n{reasons}\n\n" + "\n".join(lines) + "\n"


def _robot_text(summary: RetrainingSummary) -> str:
    if summary.release is not None:
        return _robot_words(summary.robot)
    runs = f"release {summary.robot.release}" if summary.robot.release is not None else "nothing yet"
    return f"unchanged, runs {runs}; {summary.pending or 'nothing was released'}"


def table_rows(summary: RetrainingSummary) -> list[tuple[str, str]]:
    """The short table at the end of `posa retrain`."""
    reused = sum(step.status == "reused" for step in summary.steps)
    return [
        ("data version", summary.data_version),
        ("training", f"{summary.training_seconds:.0f} s"),
        ("success", "not measured" if summary.evaluation is None else summary.evaluation.in_words()),
        *([] if summary.offline is None else [("held-out episodes", summary.offline.in_words())]),
        ("verdict", summary.decision.in_words()),
        ("model version", summary.model_version),
        ("robot", _robot_text(summary)),
        ("steps", f"{len(summary.steps)}, {reused} of them reused, {summary.seconds:.0f} s in all"),
        ("look", "posa ui"),
    ]
