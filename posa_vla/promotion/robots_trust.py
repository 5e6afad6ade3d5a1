"""Whose approvals a target's robots ask for, and the folder that hands it to them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.console import say
from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.promotion.champion import promotion_log
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.trust import Trust


def require_approvable(params: Params, embodiment: Embodiment) -> None:
    """Stops before work for a target whose releases nobody could approve, or nobody would have to.

    Raises:
        BadInput: A robot that exists asks for no approval, or more approvals are asked for than there are approvers.
    """
    target = params.chosen
    if target.approvals == 0 and not embodiment.simulated:
        raise BadInput(
            f"target {params.target!r}: embodiment {embodiment.id!r} is not simulated, so that its releases "
            "need at least one approval: set approvals and approvers (`posa approve --new-key FILE` makes a key)"
        )
    if "robot" in target.evidence:
        return  # without trials nothing is released: who approves may be said when there are some
    approvers = len(set(target.approvers.values()))
    if target.approvals > approvers:
        raise BadInput(
            f"target {params.target!r} asks for {target.approvals} approvals and names {approvers} approvers' keys: "
            "add approvers"
        )


def hand_over(workspace: Workspace, target: str, publisher: Publisher, trust: Trust) -> Path:
    """Writes what the target's robots are handed; where robots may have been handed another trust, it is said.

    Returns:
        The folder with `root.json` and `trust.json`.
    """
    from posa_vla.release.trust import read_trust, write_trust

    folder = workspace.promotions / target / "trust"
    try:
        before = read_trust(folder)
    except BadInput:
        before = None
    now = (publisher.root_bytes(), trust)
    if before == now:
        return folder
    write_trust(folder, *now)
    if promotion_log(workspace, target).champion() is not None:
        what = "was lost, and is made anew of params.yaml and the publisher's keys" if before is None else "has changed"
        say(
            f"what robots of target {target!r} trust {what}: {folder}. Robots go by what they were handed, until each "
            f"one is handed this: `posa robot provision --config FILE --trust {shlex.quote(str(folder))}`"
        )
    return folder
