"""Trainings that a workspace's ledger has on record, without anything having been trained."""

from __future__ import annotations

from posa_vla.dataset.validation.findings import Finding
from posa_vla.dataset.validation.report import ValidationReport
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.files import write_json
from posa_vla.ledger import Ledger
from posa_vla.pipeline.records import Candidate, Trained
from posa_vla.workspace import Workspace


def record_version(workspace: Workspace, data: DataVersion, fraction: float = 0.05) -> None:
    """A data version, prepared with a share held out."""
    inputs = {"store": data.version, "params": {"prepare": {"validation_fraction": fraction}}}
    Ledger(workspace).step("version", inputs, DataVersion, lambda key: data)
    write_findings(workspace, data)


def write_findings(workspace: Workspace, data: DataVersion, *rules: str) -> None:
    """The validation report of a data version, with one finding of each rule."""
    findings = [
        Finding(severity="severe", rule=rule, batch="b", episode=0, digest="d", frame=None, value="v", remedy="r")
        for rule in rules
    ]
    report = ValidationReport(
        store_digest="s",
        batches=1,
        episodes=data.episodes,
        frames=data.frames,
        rules={},
        quarantined=[],
        findings=findings,
    )
    write_json(workspace.reports / data.version / "report.json", report.model_dump(mode="json"))


def record_training(workspace: Workspace, trained: Trained, bundle: str) -> Candidate:
    """A training on a data version, from the start that its record says, and its bundle."""
    inputs = {"data_version": trained.data.version, **({} if trained.start is None else {"start": trained.start})}
    Ledger(workspace).step("train", inputs | {"key": trained.key}, Trained, lambda key: trained)
    candidate = Candidate(source=trained, digest=bundle)
    return Ledger(workspace).step("bundle", {"training": trained.key}, Candidate, lambda key: candidate).record
