"""Rollouts without a simulator: policies that solve a share of the scenes."""

from __future__ import annotations

from typing import Any

from posa_vla.evidence.record import EpisodeRow, Evidence, evidence_path, write_evidence
from posa_vla.evidence.suite import Suite
from posa_vla.pipeline.context import StepContext


class Rates:
    """A policy solves the scenes whose seed is below its rate: who is better solves all that who is worse does.

    Attributes:
        of: Bundle digest -> rate.
        ran: Bundle and number of scenes of each run.
    """

    def __init__(self) -> None:
        self.of: dict[str, float] = {}
        self.ran: list[tuple[str, int]] = []

    def run(
        self, context: StepContext, bundle: str, seeds: list[int], folder: str, way: Any = None, place: Any = None
    ) -> Evidence:
        """What `posa_vla.pipeline.steps.evaluate.run_policy` gives."""
        self.ran.append((bundle, len(seeds)))
        suite = Suite.of(context.params, seeds)
        suite = suite if way is None else suite.run_as(way)
        suite = suite.model_copy(update={"flow_steps": context.params.model.flow_steps})
        rows = [
            EpisodeRow(scene_seed=seed, success=seed % 997 < 997 * self.of[bundle], steps=9, path_length=0.3)
            for seed in seeds
        ]
        evidence = Evidence(
            policy_digest=bundle, suite=suite.describe(), planned=len(rows), rows=rows, hardware="test", versions={}
        )
        write_evidence(evidence_path(context.workspace, evidence.digest), evidence)
        return evidence
