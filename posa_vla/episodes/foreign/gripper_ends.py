"""Whether a gripper's declared ends are exchanged: a gripper stops on its way to closed, at what it holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.embodiment import Embodiment

# Seconds that a command has to stand, and by how much of the gripper's range it may move meanwhile.
_STANDS, _STILL = 0.4, 0.02
# A gripper is held up where it stays behind its command by this share of its range; in so many of the frames in which
# the command stands, at least, and in so many of these on its way to what is declared as open.
_BEHIND, _OFTEN, _TO_OPEN = 0.06, 0.1, 0.9


def exchanged_ends(
    embodiment: Embodiment, states: list[NDArray[np.float32]], actions: list[NDArray[np.float32]]
) -> list[str]:
    """Channels of grippers whose `closed` and `open` are likely exchanged.

    It can be told where the command is a channel of the action, and the measured opening is one of the same name of
    the state: who holds something measures more than was commanded.

    Args:
        embodiment: Declares the grippers.
        states: float32 (T, S) of some episodes, in the embodiment's units.
        actions: float32 (T, A) of the same.
    """
    measured, commanded = ([channel.name for channel in part] for part in (embodiment.state, embodiment.action))
    steps = max(1, round(_STANDS * embodiment.control_hz))
    found = []
    for rule in embodiment.gripper_rules:
        if rule.channel not in measured or rule.channel not in commanded:
            continue
        behind = []
        for state, action in zip(states, actions, strict=True):
            if len(action) <= steps:
                continue
            is_at, is_told = (
                (rows[:, names.index(rule.channel)].astype(np.float64) - rule.closed) / (rule.open - rule.closed)
                for rows, names in ((state, measured), (action, commanded))
            )
            windows = np.lib.stride_tricks.sliding_window_view(is_told, steps + 1)
            stands = np.ptp(windows, axis=1) < _STILL
            behind.append((is_told - is_at)[steps:][stands])
        gaps = np.concatenate(behind) if behind else np.zeros(0)
        held = np.abs(gaps) > _BEHIND
        if held.sum() > _OFTEN * len(held) and (gaps[held] > 0).mean() > _TO_OPEN:
            found.append(rule.channel)
    return found
