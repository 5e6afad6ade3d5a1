"""A verdict that was given, with what it rests on and what has become of the policy since."""

from __future__ import annotations

import math

from posa_vla.errors import BadInput
from posa_vla.pipeline.steps.decide import read_decision
from posa_vla.promotion.champion import promotion_log, withdrawn
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.standing import standing_of
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

_ANSWERS = {True: "shown", False: "the opposite is shown", None: "not decided"}


class ExplainedVerdict(Closed):
    """The document of `posa gate explain --json`.

    Attributes:
        target: Deployment target.
        model_version: Version of its registered model; `bundle` its bundle's digest.
        time: When the verdict went into the promotion log, UTC.
        decision: The whole record.
        digest: Its digest.
        since: What has become of the policy, in words.
    """

    target: str
    model_version: str
    bundle: str
    time: str
    decision: Decision
    digest: str
    since: str

    def rows(self) -> list[tuple[str, str]]:
        """The short table."""
        decision = self.decision
        rows = [("verdict", decision.verdict), ("decided", self.time), ("now", self.since)]
        for criterion in decision.criteria:
            said = _ANSWERS[criterion.passed]
            if criterion.bound is not None and criterion.threshold is not None:
                said += f" (bound {criterion.bound:+.3f}, has to exceed {criterion.threshold:+.3g})"
            rows.append((criterion.name, said))
        rows += [(f"reason {number}", reason) for number, reason in enumerate(decision.reasons, 1)]
        if decision.tried is not None:
            e_value = math.exp(min(decision.tried.log_e, 700))
            rows.append(("try", f"{decision.tried.number}, e-value {e_value:.3g} of {1 / decision.tried.level:.3g}"))
        if decision.reference is not None:
            lifted = ", and this policy was shown to be superior to it" if decision.lifts_reference else ""
            rows.append(("reference", f"{decision.reference[:12]}{lifted}"))
        evidence = {
            "candidate": decision.candidate_evidence,
            "champion": decision.champion_evidence,
            "reference": decision.reference_evidence,
            "offline": decision.offline_evidence,
        }
        rows += [(f"evidence, {name}", digest[:12]) for name, digest in evidence.items() if digest is not None]
        return [*rows, ("decision", self.digest)]


def explain_verdict(workspace: Workspace, target: str, model_version: str) -> ExplainedVerdict:
    """The verdict on a model version.

    Raises:
        BadInput: The target has no such version, or a record is missing or damaged.
    """
    entries = [entry for entry in promotion_log(workspace, target).entries() if entry.decision]
    judged = [entry for entry in entries if entry.model_version == model_version]
    if not judged:
        there = ", ".join(dict.fromkeys(entry.model_version for entry in entries)) or "none"
        raise BadInput(f"target {target!r} has no verdict on model version {model_version}: there are {there}")
    # A rollback names the decision that first let its release out.
    entry = next((entry for entry in reversed(judged) if entry.kind != "rollback"), judged[-1])
    return ExplainedVerdict(
        target=target,
        model_version=model_version,
        bundle=entry.bundle,
        time=entry.time,
        decision=read_decision(workspace, entry.decision),
        digest=entry.decision,
        since=_since(workspace, target, entry.bundle),
    )


def _since(workspace: Workspace, target: str, bundle: str) -> str:
    standing = standing_of(workspace, target)
    roles = [name for name, of in (("champion", standing.champion), ("reference", standing.reference)) if of == bundle]
    if roles:
        return f"it is the {' and the '.join(roles)}"
    why = withdrawn(workspace, target, bundle)
    if why is not None:
        return f"it was rolled back from: {why}"
    released = any(entry.bundle == bundle for entry in promotion_log(workspace, target).releases())
    return "another release has come since" if released else "it was never released"
