"""Seal a trained policy as a bundle that is named by its content."""

from __future__ import annotations

from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.objects.trees import get_tree
from posa_vla.pipeline.context import Retraining
from posa_vla.training.storage import policy_path


def _untrained_bundle(retraining: Retraining, data: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    from posa_vla.model.posa_policy import initial_policy_files
    from posa_vla.release.bundle import build_bundle

    workspace, params = retraining.workspace, retraining.params

    def work(key: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            initial_policy_files(workspace.home / data["folder"], params, Path(name), params.train.seed)
            return {"digest": build_bundle(Path(name), workspace.bundles).digest}

    inputs = {
        "data_version": data["version"],
        "params": params.model_dump(mode="json", include={"model", "prepare"}),
        "seed": params.train.seed,
        "code": code_digest("posa_vla.model", "posa_vla.release.bundle"),
    }
    result = retraining.ledger.step(
        "untrained", inputs, work, sound=lambda output: (workspace.bundles / output["digest"]).is_dir()
    )
    return retraining.keep(result)


def seal_bundle(retraining: Retraining, trained: dict[str, Any]) -> dict[str, Any]:
    """Seals the policy's files as a bundle that is named by its content.

    Returns:
        `digest` of the bundle.
    """
    from posa_vla.release.bundle import build_bundle

    workspace = retraining.workspace

    def work(key: str) -> dict[str, Any]:
        files = get_tree(workspace.storage, policy_path(trained["key"]), workspace.cache)
        return {"digest": build_bundle(files, workspace.bundles).digest}

    inputs = {"training": trained["key"], "code": code_digest("posa_vla.release.bundle")}
    result = retraining.ledger.step(
        "bundle", inputs, work, sound=lambda output: (workspace.bundles / output["digest"]).is_dir()
    )
    return retraining.keep(result)
