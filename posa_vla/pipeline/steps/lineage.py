"""What a policy was trained on, through all that it was started from."""

from __future__ import annotations

from typing import Any

from posa_vla.dataset.split import FEW
from posa_vla.dataset.validation.report import read_report
from posa_vla.errors import BadInput
from posa_vla.ledger import Ledger
from posa_vla.pipeline.steps.bundle import sealed_trainings
from posa_vla.workspace import Workspace


def may_know(workspace: Workspace, bundle: str, data_version: str) -> bool:
    """Whether a policy, or one that it was started from, may have been trained on what a data version holds out.

    An episode keeps its side of the split by a hash, but only where there are `FEW`, and where the share that is held
    out has not grown. Where a later version put episodes aside because held-out ones are nearly the same, an earlier
    one has trained on them. What was trained elsewhere, or is no longer on record, may have been trained on anything.

    Args:
        workspace: Has the record of its trainings.
        bundle: Digest of the policy.
        data_version: Whose held-out episodes are asked about.

    Raises:
        BadInput: A record is damaged.
    """
    ledger = Ledger(workspace)
    splits: dict[str, tuple[int, float]] = {}
    for step in ledger.entries("version"):
        params: Any = step.inputs.get("params")
        try:
            made = int(step.output["episodes"]), float(params["prepare"]["validation_fraction"])
        except (KeyError, TypeError, ValueError):
            continue  # of another version of posa-vla: what it holds out is not known
        splits[str(step.output.get("version"))] = made
    trainings = {step.output.get("key"): step.inputs for step in ledger.entries("train")}
    sealed = {digest: key for key, digest in sealed_trainings(workspace)}
    next_one: str | None = bundle
    seen = set[str]()
    while next_one is not None:
        training = trainings.get(sealed.get(next_one))
        if training is None or next_one in seen:
            return True
        seen.add(next_one)
        learnt = str(training["data_version"])
        if _differs(splits, learnt, data_version) or (learnt != data_version and _has_copies(workspace, data_version)):
            return True
        start = training.get("start")
        next_one = None if start is None else str(start)
    return False


def _differs(splits: dict[str, tuple[int, float]], learnt: str, asked: str) -> bool:
    """Whether what one version trains on may be held out by another one."""
    if learnt == asked:
        return False
    if learnt not in splits or asked not in splits:
        return True
    (there, held_there), (here, held_here) = splits[learnt], splits[asked]
    return min(there, here) < FEW or held_there < held_here


def _has_copies(workspace: Workspace, version: str) -> bool:
    """Whether a version put episodes aside as nearly the same as held-out ones, which an earlier one trained on."""
    try:
        report = read_report(workspace.reports / version / "report.json")
    except BadInput:
        return True
    return any(finding.rule == "scene-leakage" for finding in report.findings)


def version_of(workspace: Workspace, prepared: str) -> str | None:
    """The data version whose prepared data have a digest (`sha256_tree`); None where none on record has."""
    for step in Ledger(workspace).entries("version"):
        if step.output.get("prepared") == prepared:
            return str(step.output["version"])
    return None
