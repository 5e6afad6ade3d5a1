"""What the calibration file says of a camera that was moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dataset.calibration.test_fit import HEIGHT, WIDTH, seen_by

from posa_vla.dataset.calibration.automatic import Stretch
from posa_vla.episodes.calibration import Calibration, calibrate
from posa_vla.pipeline.calibration import standing
from posa_vla.schema import parse


@pytest.mark.parametrize("unknown", [0, 1])
def test_where_nobody_knows_the_camera_nothing_has_a_pose(unknown: int) -> None:
    known = Stretch(0, 44, 45, seen_by(21, strangers=0.0).fit(), [], 0.01)
    stretches = [known, Stretch(45, 49, 5, reasons=["too few"])]
    if unknown == 0:
        stretches = [replace(stretches[1], first=0, last=4), replace(known, first=5, last=49)]
    value = Calibration(cameras={"head": standing(stretches)}).model_dump(mode="json", exclude_none=True)
    camera = parse(Calibration, value, "calibration.yaml").cameras["head"]
    images = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    first, last = (calibrate(images, camera.at(number), None) for number in (4, 45))
    lost, found = (first, last) if unknown == 0 else (last, first)
    assert lost.pose is None
    assert lost.covariance is None
    assert found.pose is not None
    assert found.covariance is not None
