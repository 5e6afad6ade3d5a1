"""What a robot holds, verified, without changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posa_vla.release.record import Trust
from posa_vla.robot.slots import Slots


def robot_status(home: Path, trust: Trust) -> dict[str, Any]:
    """The document of `posa robot status --json`.

    Returns:
        `target`; `release` {`number`, `bundle_digest`} that runs, null for none or one that does not verify; `pending`
        slot or null; `slots` name -> {`number`, `bundle_digest`, `damage`: words or null}.

    Raises:
        Refused: `state.json` is damaged.
    """
    slots = Slots(home)
    state = slots.state

    held = {
        slot: {
            "number": installed.release,
            "bundle_digest": installed.bundle_digest,
            "damage": slots.damage(slot, trust),
        }
        for slot, installed in sorted(state.slots.items())
    }
    runs = held[state.active] if state.active is not None else None
    return {
        "target": trust.target,
        "release": {name: runs[name] for name in ("number", "bundle_digest")} if runs and not runs["damage"] else None,
        "pending": state.pending,
        "slots": held,
    }
