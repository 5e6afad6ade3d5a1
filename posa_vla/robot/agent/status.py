"""What a robot holds, verified, without changing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput, PosaError
from posa_vla.policy.made_for import said_execution
from posa_vla.release.record import ReleaseRecord
from posa_vla.release.trust import Trust
from posa_vla.robot.agent.slots import Slots
from posa_vla.robot.agent.terms import NOT_FIXED, RunSettings, Terms, execution_words, terms_of


def robot_status(
    home: Path,
    trust: Trust,
    own: RunSettings | None = None,
    said_in: Mapping[str, Path] | None = None,
    contradiction: str | None = None,
) -> dict[str, Any]:
    """The document of `posa robot status --json`.

    Args:
        home: The robot's state folder.
        trust: What the robot was handed.
        own: The robot's settings; None where no file says any.
        said_in: Setting -> file that says it.
        contradiction: Why a robot of these settings may not run here whatever its release is, or None.

    Returns:
        `target`; `release` {`number`, `bundle_digest`} that runs, null for none or one that does not verify; what its
        record fixes: `execution`, `image_size`, `sequence`, null where it is of version 1 or nothing runs; `runs_with`,
        what the release is run with on this robot, in words, null where it is not run; `lowered`, what the robot's
        settings lower of that, in words; `contradiction`, why the robot's settings do not let it run the release, or
        null; `pending` slot or null; `slots` name -> {`number`, `bundle_digest`, `damage`:
        words or null}.

    Raises:
        Refused: `state.json` is damaged.
    """
    slots = Slots(home)
    state = slots.state
    held: dict[str, dict[str, Any]] = {}
    runs: ReleaseRecord | None = None
    folder = home
    for slot, installed in sorted(state.slots.items()):
        damage = None
        try:
            record = slots.require_sound(slot, trust)
            if slot == state.active:
                runs, folder = record, slots.folder(slot)
        except PosaError as error:
            damage = str(error)
        held[slot] = {"number": installed.release, "bundle_digest": installed.bundle_digest, "damage": damage}
    execution = None if runs is None else runs.execution
    terms: Terms | None = None
    if runs is not None and contradiction is None:
        try:
            terms = terms_of(runs, own or RunSettings(), said_in, said_execution(folder))
        except BadInput as error:
            contradiction = str(error)
    return {
        "target": trust.target,
        "release": None if runs is None else {"number": runs.release, "bundle_digest": runs.bundle_digest},
        "execution": None if execution is None else execution.model_dump(mode="json"),
        "image_size": None if runs is None else runs.image_size,
        "sequence": None if runs is None else runs.sequence,
        "runs_with": None if terms is None else _runs_with(terms, known=own is not None),
        "lowered": [] if terms is None else terms.lowered,
        "contradiction": contradiction,
        "pending": state.pending,
        "slots": held,
    }


def _runs_with(terms: Terms, *, known: bool) -> str:
    if terms.fixed:
        return execution_words(terms.execution, terms.image_size)
    # Without the robot's file, flags that are not known here may say it.
    return f"{execution_words(terms.execution, terms.image_size)}; {NOT_FIXED}" if known else NOT_FIXED
