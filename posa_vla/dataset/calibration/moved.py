"""At which episode a camera was moved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posa_vla.dataset.calibration.fit import CameraFit

Floats = NDArray[np.float64]

# A camera was moved where one that fits what was before and one that fits what is after explain all events so much
# better than one camera does, in squared standard deviations.
_MOVED = 60.0
# Or where events, one after the other, are not where the camera would see them: so much more likely (logarithm) of
# another camera, of whose events this share is elsewhere.
_ELSEWHERE, _LIKELIER = 0.95, 8.0


def moved_at(
    whole: CameraFit,
    early: CameraFit,
    late: CameraFit,
    poses: Floats,
    places: Floats,
    numbers: Sequence[int],
    fewest: int,
) -> int | None:
    """Place of the first event after a camera was moved, between two episodes; None where one camera explains all.

    Args:
        whole: Fits all events.
        early: Fits the first of them.
        late: Fits the last of them.
        poses: See `fit_camera`.
        places: Likewise, its `pixels`.
        numbers: Of the events' episodes, in their order.
        fewest: Events before the place, and after it.
    """
    sigma = max(min(early.sigma, late.sigma), 1.0)
    before, after, one = (camera.misfits(poses, places, sigma) for camera in (early, late, whole))
    best, place = _MOVED, None
    for split in range(fewest, len(numbers) - fewest + 1):
        if numbers[split] == numbers[split - 1]:
            continue
        gain = float(one.sum() - before[:split].sum() - after[split:].sum())
        if gain > best:
            best, place = gain, split
    return place


def strange_run(explained: NDArray[np.bool_], numbers: Sequence[int]) -> tuple[int, int] | None:
    """The first event, and the one after the last, of whole episodes in which a camera stood elsewhere; else None.

    Everywhere some events are other things'; a run is strange where there are far more of them than at the other
    episodes (a scan statistic: the run of the largest likelihood ratio).

    Args:
        explained: bool (N,), which events are where the camera sees them.
        numbers: Of their episodes, in order.
    """
    starts = [0, *(place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1]), len(numbers)]
    run: tuple[int, int] | None = None
    usual = explained
    # The share of strange events that is usual is that outside of the run, which is not known at first.
    for _ in range(3):
        share = min((np.sum(~usual) + 1) / (len(usual) + 2), 0.9)
        gains = np.where(explained, math.log((1 - _ELSEWHERE) / (1 - share)), math.log(_ELSEWHERE / share))
        total = np.concatenate([[0.0], np.cumsum(gains)])[starts]
        best, found = _LIKELIER, None
        lowest = 0
        for last in range(1, len(starts)):
            if total[last] - total[lowest] > best:
                best, found = float(total[last] - total[lowest]), (starts[lowest], starts[last])
            if total[last] < total[lowest]:
                lowest = last
        if found is None or found == (0, len(numbers)):
            return run
        run = found
        usual = np.concatenate([explained[: run[0]], explained[run[1] :]])
    return run
