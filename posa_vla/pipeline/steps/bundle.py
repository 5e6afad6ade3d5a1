"""Seal a policy, trained or not, as a bundle that is named by its content."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from posa_vla.code_digest import code_digest
from posa_vla.dataset.versions.record import DataVersion
from posa_vla.ledger import Ledger
from posa_vla.model.config import read_config
from posa_vla.objects.trees import get_tree
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Candidate, Trained
from posa_vla.policy.made_for import made_for
from posa_vla.training.storage import policy_path
from posa_vla.workspace import Workspace


def bundle(context: StepContext, trained: Trained) -> Candidate:
    """Seals a trained policy's files, and the execution that the parameters ask for."""
    from posa_vla.release.bundle import build_bundle

    workspace, params = context.workspace, context.params

    def work(key: str) -> Candidate:
        files = get_tree(workspace.storage, policy_path(trained.key), workspace.cache)
        execution = made_for(params, read_config(files).params.flow_steps)
        return Candidate(source=trained, digest=build_bundle(files, workspace.bundles, execution).digest)

    # The training decides the policy's own flow steps.
    execution = made_for(params, params.model.flow_steps).model_dump(mode="json")
    inputs = {"training": trained.key, "execution": execution, "code": code_digest("posa_vla.release.bundle")}
    result = context.ledger.step(
        "bundle", inputs, Candidate, work, sound=lambda made: _is_there(workspace, made), before={"source": trained}
    )
    return context.keep(result)


def bundle_untrained(context: StepContext, data: DataVersion) -> Candidate:
    """Seals a policy as it is before its first training step."""
    from posa_vla.model.posa_policy import initial_policy_files
    from posa_vla.release.bundle import build_bundle

    workspace, params = context.workspace, context.params
    execution = made_for(params, params.model.flow_steps)

    def work(key: str) -> Candidate:
        with tempfile.TemporaryDirectory() as name:
            initial_policy_files(workspace.home / data.folder, params, Path(name), params.train.seed)
            return Candidate(source=data, digest=build_bundle(Path(name), workspace.bundles, execution).digest)

    inputs = {
        "data_version": data.version,
        "params": params.model_dump(mode="json", include={"model", "prepare"}),
        "seed": params.train.seed,
        "execution": execution.model_dump(mode="json"),
        "code": code_digest("posa_vla.model", "posa_vla.release.bundle"),
    }
    result = context.ledger.step(
        "untrained", inputs, Candidate, work, sound=lambda made: _is_there(workspace, made), before={"source": data}
    )
    return context.keep(result)


def _is_there(workspace: Workspace, candidate: Candidate) -> bool:
    return (workspace.bundles / candidate.digest).is_dir()


def sealed_trainings(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Key of every training that was sealed, and the digest of its bundle: one for each execution.

    Raises:
        BadInput: The ledger's file of one is damaged.
    """
    for step in Ledger(workspace).entries("bundle"):
        yield str(step.inputs["training"]), str(step.output["digest"])
