"""The account of a target, as its kept decisions tell it."""

from __future__ import annotations

from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.evidence.account import Account
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence
from posa_vla.files import read_json
from posa_vla.promotion.gate import Decision
from posa_vla.schema import parse
from posa_vla.workspace import Workspace


def decisions_folder(workspace: Workspace) -> Path:
    """Where decision records lie, each named by its digest."""
    return workspace.promotions / "decisions"


def _decisions(workspace: Workspace, target: str) -> list[Decision]:
    """Those of the target that have a place in its account, by number and then by how much they saw.

    Raises:
        BadInput: A record is damaged; an account without it would be too generous.
    """
    found = []
    for path in sorted(decisions_folder(workspace).glob("*.json")):
        decision = parse(Decision, read_json(path), str(path))
        if decision.target == target and decision.tried is not None:
            found.append(decision)
    return found


def account_of(workspace: Workspace, target: str, alpha: float) -> Account:
    """All tries of a target; of one that went on, how it ended.

    Raises:
        BadInput: A record is damaged.
    """
    account = Account(alpha=alpha)
    tries = [decision.tried for decision in _decisions(workspace, target) if decision.tried is not None]
    for tried in sorted(tries, key=lambda of: of.verdict != "no decision"):
        account = account.after(tried)
    return account


def _goes_on(workspace: Workspace, old: str | None, new: Evidence | None) -> int | None:
    """How many rows were added to evidence that an earlier decision saw; None where it is other evidence."""
    if old is None or new is None:
        return 0 if old is None and new is None else None
    try:
        before = read_evidence(evidence_path(workspace, old)).rows
    except BadInput:
        return None
    now = [(row.scene_seed, row.success) for row in new.rows]
    seen = [(row.scene_seed, row.success) for row in before]
    return len(now) - len(seen) if now[: len(seen)] == seen else None


def number_of(
    workspace: Workspace, target: str, asked: str, candidate: Evidence, champion: Evidence | None
) -> int | None:
    """Place in the account of a candidate that goes on where it stopped undecided, or is decided on once more.

    Args:
        workspace: Has the target's decisions and evidence.
        target: Deployment target.
        asked: What is asked.
        candidate: Its rollouts. They go on where the earlier decision saw the first of them.
        champion: The champion's.

    Returns:
        Its number; None where this is a new try.

    Raises:
        BadInput: A record is damaged.
    """
    for decision in _decisions(workspace, target):
        tried = decision.tried
        if tried is None or (tried.candidate, tried.asked) != (candidate.policy_digest, asked):
            continue
        added = [
            _goes_on(workspace, old, new)
            for old, new in ((decision.candidate_evidence, candidate), (decision.champion_evidence, champion))
        ]
        if None not in added and (tried.verdict == "no decision" or not any(added)):
            return tried.number
    return None
