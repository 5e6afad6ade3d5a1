"""Who a target's candidates are compared with: champion and reference, as its log and its decisions tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature

from posa_vla.errors import BadInput
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.evidence.reference import Standing
from posa_vla.params import TargetParams
from posa_vla.policy.execution import JUDGED
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.entries import Promotion, Reference, Rollback, named_statement
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.tries import decisions_folder, read_decision_file
from posa_vla.release.keys import public_key
from posa_vla.workspace import Workspace


def standing_of(
    workspace: Workspace,
    target: str,
    conditions: Mapping[str, Any] | None = None,
    approvers: Collection[str] | None = None,
) -> Standing:
    """Champion and reference of a target.

    What was promoted by fixed tests, which know no reference, is one. A promotion by criteria leaves the reference as
    it is, unless the candidate was shown to be superior to it. Where it was shown on another suite than candidates are
    judged on now, the champion is the reference from here on.

    Args:
        workspace: Has the target's log, decisions and evidence.
        target: Deployment target.
        conditions: Of the suite that candidates are judged on now (`Suite.describe`); None where that does not matter.
        approvers: Public keys (hex) of who may name a reference: one that nobody of them signed counts for nothing.
            None where anybody may.

    Raises:
        BadInput: The log or a decision is damaged, or a signature is none.
    """
    standing, shown_on = Standing(), dict[str, Any]()
    for entry in promotion_log(workspace, target).entries():
        if isinstance(entry, Promotion):
            decision = _decision(workspace, entry.decision)
            before = standing.reference
            standing = _after(standing, entry.bundle, decision)
            # Held against the reference on a suite, or moved by what was shown there: it is that suite's from then on.
            if decision is not None and (decision.reference is not None or standing.reference != before):
                shown_on = _suite(workspace, decision)
        elif isinstance(entry, Rollback):
            if standing.champion not in (None, entry.bundle):
                standing = standing.withdrawn(str(standing.champion))
            standing = standing.rolled_back(entry.bundle)
        elif isinstance(entry, Reference):
            _require_signed(entry, target)
            counts = approvers is None or entry.signer in approvers
            standing, shown_on = standing.named(entry.bundle) if counts else Standing(standing.champion), {}
    now = {} if conditions is None else _conditions(conditions)
    other_suite = bool(now and shown_on) and now != shown_on
    if other_suite and standing.champion is not None and standing.reference is not None:
        return standing.named(standing.champion)
    return standing


def who_names(target: TargetParams) -> list[str] | None:
    """Keys of who may name a reference; None where nobody has to approve releases."""
    return list(target.approvers.values()) if target.approvals else None


def _after(standing: Standing, bundle: str, decision: Decision | None) -> Standing:
    if decision is None:  # its record is lost: nobody knows what was shown
        return Standing(bundle)
    if decision.gate.criteria is None:
        return Standing(bundle, bundle)
    if decision.reference is not None and standing.champion is not None:
        standing = standing.named(decision.reference)
    lifts = decision.lifts_reference
    if decision.reference is None:  # written before references were: superior to the champion, which may be one
        superior = any(of.kind == "superior" for of in decision.gate.criteria)
        lifts = superior and standing.champion == standing.reference
    return standing.promoted(bundle, superior_to_reference=lifts)


def _decision(workspace: Workspace, digest: str) -> Decision | None:
    path = decisions_folder(workspace) / f"{digest}.json"
    return read_decision_file(path) if path.is_file() else None


def _conditions(suite: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a suite another one: neither which scenes were drawn of it, nor how a policy was executed on it."""
    return {name: value for name, value in suite.items() if name not in (*JUDGED, "seeds")}


def _suite(workspace: Workspace, decision: Decision) -> dict[str, Any]:
    """Conditions of the rollouts that a decision was made on; empty where they are not at hand."""
    if decision.candidate_evidence is None:
        return {}
    path = evidence_path(workspace, decision.candidate_evidence)
    return _conditions(read_evidence(path).suite) if path.is_file() else {}


def _require_signed(entry: Reference, target: str) -> None:
    if not entry.signer:
        return
    statement = named_statement(target, entry.bundle, "; ".join(entry.reasons), entry.previous)
    key = public_key(entry.signer)
    try:
        key.verify_signature(Signature(key.keyid, entry.signature), statement)
    except (UnverifiedSignatureError, VerificationError):
        raise BadInput(
            f"promotion log of target {target!r}, entry {entry.number}: the signature under the reference "
            f"{entry.bundle[:12]} is none of key {entry.signer[:12]}: restore the log from a backup"
        ) from None
