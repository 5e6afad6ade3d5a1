"""Candidates with evidence that a test chooses, taken through decision, registration and release."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from untrained import arm_params, untrained_bundle

from posa_vla.artifact_places import database_file
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.evidence.record import EpisodeRow, Evidence, evidence_path, write_evidence
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import Summary
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, open_context
from posa_vla.pipeline.records import Candidate as CandidateRecord
from posa_vla.pipeline.records import Decided, Evaluated, Released, Trained
from posa_vla.pipeline.steps.decide import decide
from posa_vla.pipeline.steps.register import register
from posa_vla.pipeline.steps.release import release
from posa_vla.promotion.champion import champion_bundle, open_publisher
from posa_vla.release.bundle import Bundle
from posa_vla.settings import Settings
from posa_vla.tracking import connect
from posa_vla.workspace import Workspace

DATA = DataVersion(
    version="d" * 64, name="data-v1", folder="data", episodes=9, frames=99, commit="c" * 40, prepared="p" * 64
)
TRAINED = Trained(data=DATA, key="t" * 64, seconds=1.0)


@functools.cache
def _empty_database() -> bytes:
    """MLflow's database before anything was done: to make one anew takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        connect(uri)
        return (Path(folder) / "mlflow.db").read_bytes()


def make_workspace(folder: Path) -> Workspace:
    workspace = Workspace.open(Settings(home=folder / "home"))
    database = database_file(workspace.mlflow_uri)
    assert database is not None
    database.parent.mkdir(parents=True, exist_ok=True)
    database.write_bytes(_empty_database())
    return workspace


@dataclass
class Candidate:
    """A bundle in a workspace, with evidence that it solved a number of scenes."""

    context: StepContext
    bundle: Bundle

    def evaluated(self, solved: int, champion: str | None = None) -> Evaluated:
        rows = [EpisodeRow(scene_seed=i, success=i < solved, steps=20, path_length=0.3) for i in range(30)]
        params = self.context.params
        suite = Suite.of(params, range(30)).model_copy(update={"flow_steps": params.model.flow_steps})
        evidence = Evidence(
            policy_digest=self.bundle.digest,
            suite=suite.describe(),
            planned=30,
            rows=rows,
            hardware="test",
            versions={},
        )
        write_evidence(evidence_path(self.context.workspace, evidence.digest), evidence)
        return Evaluated(
            candidate=CandidateRecord(source=TRAINED, digest=self.bundle.digest),
            evidence=evidence.digest,
            champion=champion,
            champion_evidence=None,
            summary=Summary.of(evidence),
            reports="evaluations/none",
        )

    def promote(self, solved: int = 30, champion: str | None = None) -> tuple[Decided, Released | None]:
        """Decides, registers, and releases after "promote"; what the flow does."""
        evaluated = self.evaluated(solved, champion)
        decided = decide(self.context, evaluated)
        registered = register(self.context, decided)
        if decided.verdict != "promote":
            return decided, None
        return decided, release(self.context, registered)


def candidate(context: StepContext, params: Params, folder: Path, seed: int = 0) -> Candidate:
    made = untrained_bundle(folder, params, seed)
    place = context.workspace.bundles / made.digest
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        made.folder.rename(place)
    return Candidate(context, Bundle(made.digest, place))


@functools.cache
def _two_releases() -> tuple[tempfile.TemporaryDirectory[str], Workspace, list[str]]:
    """The folder, which goes with the process, the workspace in it, and the digests of both bundles."""
    folder = tempfile.TemporaryDirectory()
    params, workspace = arm_params(), make_workspace(Path(folder.name))
    made: list[str] = []
    with open_context(workspace, params, "test") as context:
        for seed in (0, 1):
            one = candidate(context, params, Path(folder.name) / f"policy-{seed}", seed)
            _, released = one.promote(champion=champion_bundle(workspace, "t"))
            assert released is not None
            assert released.release == seed + 1
            made.append(one.bundle.digest)
    return folder, workspace, made


def two_releases(tmp_path: Path) -> tuple[Workspace, Params, list[Candidate]]:
    """A workspace in `tmp_path/home` in which two candidates were released; a copy, for to make it takes seconds."""
    _, whole, digests = _two_releases()
    shutil.copytree(whole.home, tmp_path / "home")
    workspace, params = Workspace.open(Settings(home=tmp_path / "home")), arm_params()
    open_publisher(workspace)  # takes over what it remembers of the channel at the other place
    context = StepContext(workspace, params)
    return workspace, params, [Candidate(context, Bundle(digest, workspace.bundles / digest)) for digest in digests]
