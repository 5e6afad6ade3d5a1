"""The account of a target, as its kept decisions tell it."""

from __future__ import annotations

from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.evidence.account import Account, Try
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence
from posa_vla.files import read_json, sha256_json
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.lifetime_gate import Place
from posa_vla.schema import parse
from posa_vla.workspace import Workspace


def decisions_folder(workspace: Workspace) -> Path:
    """Where decision records lie, each named by its digest."""
    return workspace.promotions / "decisions"


def read_decision_file(path: Path) -> Decision:
    """A decision record, held against the digest that it is named by.

    Raises:
        BadInput: It is missing or damaged, or was changed.
    """
    value = read_json(path)
    if sha256_json(value) != path.stem:
        raise BadInput(f"{path} is not what was decided: its content has another digest; restore it from a backup")
    return parse(Decision, value, str(path))


def _decisions(workspace: Workspace, target: str) -> list[Decision]:
    """Those of the target that have a place in its account, by number and then by how much they saw.

    Raises:
        BadInput: A record is damaged; an account without it would be too generous.
    """
    found = []
    for path in sorted(decisions_folder(workspace).glob("*.json")):
        decision = read_decision_file(path)
        if decision.target == target and decision.tried is not None:
            found.append(decision)
    return found


def account_of(workspace: Workspace, target: str, alpha: float) -> Account:
    """All tries of a target; of one that went on, how it ended.

    Raises:
        BadInput: A record is damaged.
    """
    decisions = _decisions(workspace, target)
    account = Account(alpha=alpha, laxest=max((1 - of.gate.confidence for of in decisions), default=0.0))
    tries = [decision.tried for decision in decisions if decision.tried is not None]
    for tried in sorted(tries, key=lambda of: of.verdict != "no decision"):
        account = account.after(tried)
    return account


def _goes_on(workspace: Workspace, old: str | None, new: Evidence | None) -> int | None:
    """How many rows were added to evidence that an earlier decision saw; None where it is other evidence."""
    if old is None or new is None:
        return 0 if old is None and new is None else None
    try:
        before = read_evidence(evidence_path(workspace, old))
    except BadInput:
        return None
    # The digest of the seeds is another one where there are more of them.
    suites = [{name: said for name, said in of.suite.items() if name != "seeds"} for of in (before, new)]
    now, seen = ([(row.scene_seed, row.success) for row in of.rows] for of in (new, before))
    return len(now) - len(seen) if suites[0] == suites[1] and now[: len(seen)] == seen else None


def place_of(
    workspace: Workspace,
    target: str,
    asked: str,
    candidate: Evidence,
    champion: Evidence | None,
    reference: Evidence | None = None,
) -> Place | None:
    """Place in the account of a candidate that goes on where it stopped undecided, or is decided on once more.

    Args:
        workspace: Has the target's decisions and evidence.
        target: Deployment target.
        asked: What is asked.
        candidate: Its rollouts. They go on where the earlier decision saw the first of them.
        champion: The champion's.
        reference: The reference's, where it was asked about.

    Returns:
        Its place; None where this is a new try.

    Raises:
        BadInput: A record is damaged.
    """
    nearest: tuple[int, Try] | None = None
    for decision in _decisions(workspace, target):
        tried = decision.tried
        if tried is None or (tried.candidate, tried.asked) != (candidate.policy_digest, asked):
            continue
        added = [
            _goes_on(workspace, old, new)
            for old, new in (
                (decision.candidate_evidence, candidate),
                (decision.champion_evidence, champion),
                (decision.reference_evidence, reference),
            )
        ]
        more = added[0]
        if more is not None and more >= 0 and None not in added and (nearest is None or more < nearest[0]):
            nearest = more, tried
    if nearest is None:
        return None
    more, tried = nearest
    if more == 0:
        return Place(tried.number, seen=tried.seen, level=tried.level)
    return Place(tried.number, seen=len(candidate.rows) - more) if tried.verdict == "no decision" else None


def seen_of(workspace: Workspace, target: str, candidate: str) -> int:
    """Most scenes that a decision on a candidate saw; one that goes on is not looked at again on fewer.

    Raises:
        BadInput: A record is damaged.
    """
    most = 0
    for decision in _decisions(workspace, target):
        if decision.tried is None or decision.tried.candidate != candidate or decision.candidate_evidence is None:
            continue
        path = evidence_path(workspace, decision.candidate_evidence)
        most = max(most, len(read_evidence(path).rows) if path.is_file() else 0)
    return most
