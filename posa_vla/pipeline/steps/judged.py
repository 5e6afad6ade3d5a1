"""What a bundle of a workspace was judged with."""

from __future__ import annotations

from pathlib import Path

from posa_vla.console import say
from posa_vla.errors import BadInput
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.model.config import read_config
from posa_vla.pipeline.steps.decide import read_decision
from posa_vla.policy.execution import Execution
from posa_vla.policy.made_for import own_execution, said_execution
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.drafting import execution_of_evidence
from posa_vla.workspace import Workspace


def judged_with(workspace: Workspace, target: str, bundle: str, folder: Path | None = None) -> Execution:
    """The execution that a bundle was judged with: its own, which never changes with the defaults of parameters.

    A bundle says it. For one that was made before bundles did, the evidence says it that the gate saw. Without any, the
    bundle was run as all were then.

    Args:
        workspace: Has the target's log, decisions and evidence.
        target: Deployment target.
        bundle: Digest.
        folder: Where the bundle lies; among the workspace's bundles if None.

    Raises:
        BadInput: The bundle or the promotion log is damaged.
    """
    folder = folder or workspace.bundles / bundle
    said = said_execution(folder)
    if said is not None:
        return said
    log = promotion_log(workspace, target)
    # What robots run counts before a verdict on a later evaluation of the same bundle.
    for entry in (*reversed(log.releases()), *reversed(log.entries())):
        if entry.bundle != bundle:
            continue
        try:
            decision = read_decision(workspace, entry.decision)
            if decision.candidate_evidence is None:
                break
            evidence = read_evidence(evidence_path(workspace, decision.candidate_evidence))
            return execution_of_evidence(evidence, folder)
        except BadInput as error:
            say(f"what bundle {bundle[:12]} was judged with is not on record ({error}): it runs as all did then")
            break
    return own_execution(folder, read_config(folder).params.flow_steps)
