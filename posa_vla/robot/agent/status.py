"""What a robot holds, verified, without changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posa_vla.errors import PosaError
from posa_vla.release.record import ReleaseRecord
from posa_vla.release.trust import Trust
from posa_vla.robot.agent.slots import Slots
from posa_vla.robot.agent.terms import NOT_FIXED, execution_words


def robot_status(home: Path, trust: Trust) -> dict[str, Any]:
    """The document of `posa robot status --json`.

    Returns:
        `target`; `release` {`number`, `bundle_digest`} that runs, null for none or one that does not verify; what its
        record fixes: `execution`, `image_size`, `sequence`, null where it is of version 1 or nothing runs, and
        `runs_with`, the same in words; `pending` slot or null; `slots` name -> {`number`, `bundle_digest`, `damage`:
        words or null}.

    Raises:
        Refused: `state.json` is damaged.
    """
    slots = Slots(home)
    state = slots.state
    held: dict[str, dict[str, Any]] = {}
    runs: ReleaseRecord | None = None
    for slot, installed in sorted(state.slots.items()):
        damage = None
        try:
            record = slots.require_sound(slot, trust)
            runs = record if slot == state.active else runs
        except PosaError as error:
            damage = str(error)
        held[slot] = {"number": installed.release, "bundle_digest": installed.bundle_digest, "damage": damage}
    execution = None if runs is None else runs.execution
    return {
        "target": trust.target,
        "release": None if runs is None else {"number": runs.release, "bundle_digest": runs.bundle_digest},
        "execution": None if execution is None else execution.model_dump(mode="json"),
        "image_size": None if runs is None else runs.image_size,
        "sequence": None if runs is None else runs.sequence,
        "runs_with": None if runs is None else _runs_with(runs),
        "pending": state.pending,
        "slots": held,
    }


def _runs_with(record: ReleaseRecord) -> str:
    if record.execution is None or record.image_size is None:
        return NOT_FIXED
    return execution_words(record.execution, record.image_size)
