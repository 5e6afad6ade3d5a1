"""Put the evidence before the target's gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.evidence.record import read_evidence
from posa_vla.files import write_json
from posa_vla.pipeline.context import Retraining
from posa_vla.pipeline.steps.evaluate import evidence_path
from posa_vla.workspace import Workspace


def decision_path(workspace: Workspace, digest: str) -> Path:
    """Where a decision record lies, by its digest."""
    return workspace.promotions / "decisions" / f"{digest}.json"


def decide_candidate(retraining: Retraining, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Puts the evidence before the target's gate.

    Returns:
        `decision` (digest), `verdict`, `reasons`.
    """
    from posa_vla.promotion.gate import decide

    workspace, target, gate = retraining.workspace, retraining.params.target, retraining.target.gate

    def work(key: str) -> dict[str, Any]:
        candidate = read_evidence(evidence_path(workspace, evaluated["evidence"]))
        rival = evaluated["champion_evidence"]
        champion = None if rival is None else read_evidence(evidence_path(workspace, rival))
        decision = decide(target, gate, candidate, champion)
        write_json(decision_path(workspace, decision.digest), decision.model_dump(mode="json"))
        return {"decision": decision.digest, "verdict": decision.verdict, "reasons": list(decision.reasons)}

    inputs = {
        "target": target,
        "gate": gate.model_dump(mode="json"),
        "evidence": evaluated["evidence"],
        "champion_evidence": evaluated["champion_evidence"],
        "code": code_digest("posa_vla.promotion.gate"),
    }
    result = retraining.ledger.step(
        "decide", inputs, work, sound=lambda output: decision_path(workspace, output["decision"]).is_file()
    )
    return retraining.keep(result)
