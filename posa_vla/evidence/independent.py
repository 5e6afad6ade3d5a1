"""Evidence for a difference of two means where trials cannot be paired: other scenes, or scenes that nobody can repeat.

Rows of two files are never pairs because of their numbers. The money is bet on each side alone: that the candidate's
mean is above c, and that the champion's is below c + margin. Where the claim is false there is a c for which both bets
are unfavourable, so that the product of the two, at its smallest over all c, is an e-process (an infimum over the
composite hypothesis; Ramdas et al. 2023, section 4). The order of the trials does not change its last value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posa_vla.evidence.betting import Claim, Floats, log_money

# Pieces that the possible values of c are cut into. Within a piece the smaller end of each side's money counts.
_PIECES = 100


def pieces(margin: float) -> Floats:
    """The ends of the pieces: candidate's means at which the hypothesis "not above champion - margin" can be true."""
    return np.linspace(max(0.0, -margin), min(1.0, 1.0 - margin), _PIECES + 1)


def side_claims(margin: float) -> tuple[list[Claim], list[Claim]]:
    """What is claimed of candidate and champion in each piece; scores are in [0, 1]."""
    ends = pieces(margin)
    ours = [Claim(float(c), "above", 0.0, 1.0) for c in ends[1:]]
    theirs = [Claim(float(min(max(c + margin, 0.0), 1.0)), "below", 0.0, 1.0) for c in ends[:-1]]
    return ours, theirs


def _after_each(values: NDArray[Any], claims: list[Claim]) -> Floats:
    """Logarithm of the money on each claim before the first and after each value: (n + 1, pieces)."""
    rows = list(log_money(np.stack([claim.gains(values) for claim in claims]))) if len(values) else []
    return np.stack([np.zeros(len(claims)), *rows])


def log_e_independent(candidate: NDArray[Any], champion: NDArray[Any], margin: float = 0.0) -> Floats:
    """Logarithm of the e-value that mean(candidate) > mean(champion) - margin, as the trials come in.

    Args:
        candidate: (n,) scores in [0, 1], independent of the champion's.
        champion: (m,) likewise.
        margin: In (-1, 1); 0 asks for superiority. With `candidate` and `champion` exchanged, and -margin, it is the
            opposite claim.

    Returns:
        (max(n, m),): after the first k trials of each side, or all of a side that has fewer.

    Raises:
        ValueError: A score is NaN or outside [0, 1], or the margin is out of its range.
    """
    if not -1 < margin < 1:
        raise ValueError(f"margin {margin}, expected one in (-1, 1)")
    ours, theirs = side_claims(margin)
    first, second = _after_each(np.asarray(candidate), ours), _after_each(np.asarray(champion), theirs)
    looks = np.arange(1, max(len(first), len(second)))
    found: Floats = (first[np.minimum(looks, len(first) - 1)] + second[np.minimum(looks, len(second) - 1)]).min(1)
    return found
