"""Figures of an evaluation."""

from __future__ import annotations

from posa_vla.evidence.intervals import clopper_pearson
from posa_vla.evidence.record import Evidence
from posa_vla.schema import Closed


class Summary(Closed):
    """Success of a policy, and how long it took.

    Attributes:
        success_rate: Share of the valid episodes that succeeded; None without any.
        ci_low: Lower end of its exact two-sided 95 % interval; `ci_high` the upper one.
        episodes: Episodes with a valid outcome.
        mean_steps: Control steps to success, over solved episodes; None where none was.
        mean_path_length: Metres of the end effector's path, likewise.
    """

    success_rate: float | None
    ci_low: float
    ci_high: float
    episodes: int
    mean_steps: float | None
    mean_path_length: float | None

    @staticmethod
    def of(evidence: Evidence) -> Summary:
        """The figures of an evidence record."""
        rows = [row for row in evidence.rows if row.return_code == "ok"]
        solved = [row for row in rows if row.success]
        low, high = clopper_pearson(len(solved), len(rows))
        return Summary(
            success_rate=len(solved) / len(rows) if rows else None,
            ci_low=low,
            ci_high=high,
            episodes=len(rows),
            mean_steps=sum(row.steps for row in solved) / len(solved) if solved else None,
            mean_path_length=sum(row.path_length for row in solved) / len(solved) if solved else None,
        )

    def in_words(self) -> str:
        """Success rate with its interval, e.g. `93 % of 30 unseen scenes (95 % interval 78 to 99 %)`."""
        if self.success_rate is None:
            return f"unknown: {self.episodes} valid episodes"
        rate, low, high = (100 * value for value in (self.success_rate, self.ci_low, self.ci_high))
        return f"{rate:.0f} % of {self.episodes} unseen scenes (95 % interval {low:.0f} to {high:.0f} %)"
