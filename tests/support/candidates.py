"""Candidates with evidence that a test chooses, taken through decision, registration and release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from untrained import arm_params, untrained_bundle

from posa_vla.evidence.record import EpisodeRow, Evidence, write_evidence
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import summary
from posa_vla.params import Params
from posa_vla.pipeline.context import Retraining, open_retraining
from posa_vla.pipeline.steps.decide import decide_candidate
from posa_vla.pipeline.steps.evaluate import evidence_path
from posa_vla.pipeline.steps.register import register_candidate
from posa_vla.pipeline.steps.release import release_candidate
from posa_vla.promotion.champion import champion_bundle
from posa_vla.release.bundle import Bundle
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

DATA = {"version": "d" * 64, "name": "data-v1", "commit": "c" * 40, "episodes": 9, "frames": 99, "folder": "data"}
TRAINED = {"key": "t" * 64, "files": "files", "seconds": 1.0}


def make_workspace(folder: Path) -> Workspace:
    return Workspace.open(Settings(home=folder / "home"))


@dataclass
class Candidate:
    """A bundle in a workspace, with evidence that it solved a number of scenes."""

    retraining: Retraining
    bundle: Bundle

    def evaluated(self, solved: int, champion: str | None = None) -> dict[str, Any]:
        rows = [EpisodeRow(scene_seed=i, success=i < solved, steps=20, path_length=0.3) for i in range(30)]
        params = self.retraining.params
        suite = Suite(
            *(params.chosen.embodiment, params.chosen.task, range(30)),
            *(params.evaluate, params.collect.image_size, params.model.flow_steps),
        )
        evidence = Evidence(
            policy_digest=self.bundle.digest,
            suite=suite.describe(),
            planned=30,
            rows=rows,
            hardware="test",
            versions={},
        )
        write_evidence(evidence_path(self.retraining.workspace, evidence.digest), evidence)
        return {
            "bundle": self.bundle.digest,
            "evidence": evidence.digest,
            "champion": champion,
            "champion_evidence": None,
            "summary": summary(evidence),
            "reports": "evaluations/none",
        }

    def promote(self, solved: int = 30, champion: str | None = None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Decides, registers, and releases after "promote"; what the flow does."""
        evaluated = self.evaluated(solved, champion)
        decided = decide_candidate(self.retraining, evaluated)
        registered = register_candidate(self.retraining, DATA, TRAINED, evaluated, decided)
        if decided["verdict"] != "promote":
            return decided, None
        return decided, release_candidate(self.retraining, DATA, evaluated, decided, registered)


def candidate(retraining: Retraining, params: Params, folder: Path, seed: int = 0) -> Candidate:
    made = untrained_bundle(folder, params, seed)
    place = retraining.workspace.bundles / made.digest
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        made.folder.rename(place)
    return Candidate(retraining, Bundle(made.digest, place))


def two_releases(tmp_path: Path) -> tuple[Workspace, Params, list[Candidate]]:
    params, workspace = arm_params(), make_workspace(tmp_path)
    made: list[Candidate] = []
    with open_retraining(workspace, params, "test") as retraining:
        for seed in (0, 1):
            made.append(candidate(retraining, params, tmp_path / f"policy-{seed}", seed))
            champion = champion_bundle(workspace, "t")
            _, released = made[-1].promote(champion=champion)
            assert released is not None
            assert released["release"] == seed + 1
    return workspace, params, made
