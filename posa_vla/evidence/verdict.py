"""What evidence over trials amounts to: promote, reject or no decision, whenever one stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.betting import Claim, Floats, log_e_process

Verdict = Literal["promote", "reject", "no decision"]
Kind = Literal["superior", "non-inferior", "floor", "upper bound"]

PROMOTE, REJECT, NO_DECISION = 1, -1, 0
WORDS: dict[int, Verdict] = {PROMOTE: "promote", REJECT: "reject", NO_DECISION: "no decision"}


def claim_of(kind: Kind, threshold: float = 0.0) -> Claim:
    """What a criterion of this kind claims of a mean.

    Args:
        kind: `superior` and `non-inferior` are of paired differences in [-1, 1], candidate minus champion; `floor` and
            `upper bound` of the candidate's own values in [0, 1], such as success and violations.
        threshold: Floor or upper bound; of `non-inferior` the margin, a loss that is accepted. `superior` takes none.

    Raises:
        ValueError: The threshold is outside of what the kind allows.
    """
    if kind == "superior":
        if threshold != 0:
            raise ValueError(f"`superior` takes no margin, got {threshold}: a margin makes it `non-inferior`")
        return Claim(0.0)
    if kind == "non-inferior":
        if not 0 < threshold < 1:
            raise ValueError(f"margin {threshold}, expected one in (0, 1)")
        return Claim(-threshold)
    return Claim(threshold, "above" if kind == "floor" else "below", 0.0, 1.0)


@dataclass(frozen=True)
class Course:
    """Evidence for and against all criteria together, after each trial, as logarithms of e-values: (..., n) each.

    Attributes:
        support: The smallest of the criteria's. It is an e-process for "at least one criterion is not met"
            (intersection-union), so that each criterion is tested at the full level.
        against: The largest of the opposite claims', less the logarithm of their number.
    """

    support: Floats
    against: Floats


def course_of(values: Sequence[NDArray[Any]], claims: Sequence[Claim]) -> Course:
    """Evidence over trials.

    Args:
        values: One array (..., n) for each criterion, all of the same trials.
        claims: What each criterion claims of the mean of its values.

    Raises:
        ValueError: A value is NaN or out of its range.
    """
    pairs = list(zip(values, claims, strict=True))
    support = np.minimum.reduce([log_e_process(x, claim) for x, claim in pairs])
    against = np.maximum.reduce([log_e_process(x, claim.opposite()) for x, claim in pairs])
    return Course(support, against - math.log(len(pairs)))


def first_verdicts(
    course: Course, level: float | NDArray[np.float64], reject_level: float = 0.05
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """The verdict where either side first reaches its level, and the trials that it took.

    Where a criterion is not met, the chance to promote is at most `level`, however often one looks. Where all are met,
    the chance to reject is at most `reject_level`.

    Args:
        course: Of runs (..., n).
        level: Chance of a false promotion, one for all runs or (...).
        reject_level: Chance of a false rejection.

    Returns:
        (...) `PROMOTE`, `REJECT` or `NO_DECISION`, and (...) trials until then; all n where none was reached.
    """
    needed = -np.log(np.asarray(level, np.float64))[..., None]
    passed, failed = course.support >= needed, course.against >= -math.log(reject_level)
    count = course.support.shape[-1]
    # Both at once cannot be: each is shown at more than even odds.
    first = [np.where(found.any(-1), found.argmax(-1), count) for found in (passed, failed)]
    verdicts = np.where(first[0] < first[1], PROMOTE, np.where(first[1] < first[0], REJECT, NO_DECISION))
    return verdicts.astype(np.int8), np.minimum(np.minimum(*first) + 1, count)
