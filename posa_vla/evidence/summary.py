"""Figures of an evaluation."""

from __future__ import annotations

from typing import Any

from posa_vla.evidence.intervals import clopper_pearson
from posa_vla.evidence.record import Evidence


def summary(evidence: Evidence) -> dict[str, Any]:
    """Success with its exact two-sided 95 % interval; steps and path length (m) are means over solved episodes.

    Returns:
        `success_rate`, `ci_low`, `ci_high`, `episodes`, `mean_steps`, `mean_path_length`; a mean of nothing is None.
    """
    rows = [row for row in evidence.rows if row.return_code == "ok"]
    solved = [row for row in rows if row.success]
    low, high = clopper_pearson(len(solved), len(rows))
    return {
        "success_rate": len(solved) / len(rows) if rows else None,
        "ci_low": low,
        "ci_high": high,
        "episodes": len(rows),
        "mean_steps": sum(row.steps for row in solved) / len(solved) if solved else None,
        "mean_path_length": sum(row.path_length for row in solved) / len(solved) if solved else None,
    }
