"""A gripper whose declared ends are exchanged is seen by where it stops."""

from __future__ import annotations

import numpy as np
import pytest

from posa_vla.episodes.embodiment import Embodiment, load_embodiment
from posa_vla.episodes.foreign.gripper_ends import exchanged_ends
from posa_vla.schema import parse

FRAMES = 90


def episode(thick: float) -> tuple[np.ndarray, np.ndarray]:
    """State and action (90, 6): the gripper closes on something (percent), and opens."""
    told = np.repeat([100.0, 0.0, 100.0], FRAMES // 3)
    state, action = np.zeros((2, FRAMES, 6), np.float32)
    action[:, 5], state[:, 5] = told, np.maximum(told, thick)
    return state, action


def declared(closed: float, opened: float) -> Embodiment:
    value = load_embodiment("so101").model_dump(mode="json", exclude_none=True)
    value["gripper"] |= {"closed": closed, "open": opened}
    return parse(Embodiment, value, "so101.yaml")


@pytest.mark.parametrize(
    ("closed", "opened", "thick", "expected"),
    [(0, 100, 30, []), (100, 0, 30, ["gripper.pos"]), (100, 0, 0, [])],
)
def test_what_is_held_says_which_end_is_closed(closed: float, opened: float, thick: float, expected: list[str]) -> None:
    state, action = episode(thick)
    assert exchanged_ends(declared(closed, opened), [state], [action]) == expected


def test_a_gripper_that_is_measured_nowhere_is_not_judged() -> None:
    state, action = episode(30)
    assert exchanged_ends(declared(100, 0), [state[:5]], [action[:5]]) == []
    assert exchanged_ends(declared(100, 0), [], []) == []
