"""Evaluate a registered model in simulation, on more or other scenes."""

from __future__ import annotations

from typing import Any

from posa_vla.code_digest import code_digest
from posa_vla.errors import BadInput
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.pipeline.context import Retraining, open_retraining
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE, evidence_path, run_policy
from posa_vla.promotion.champion import promotion_log
from posa_vla.workspace import Workspace


def bundle_of(workspace: Workspace, target: str, model_version: int | None) -> tuple[str, str]:
    """Model version and bundle of a target's candidate; of its champion if None.

    Raises:
        BadInput: The target has no such version.
    """
    log = promotion_log(workspace, target)
    entries = {entry.model_version: entry.bundle for entry in log.entries()}
    champion = log.champion()
    if model_version is None and champion is None:
        raise BadInput(f"target {target!r} has no champion yet: name a model version")
    version = str(model_version if champion is None or model_version is not None else champion.model_version)
    if version not in entries:
        raise BadInput(f"target {target!r} has no model version {version}: it has {', '.join(entries) or 'none'}")
    return version, entries[version]


def evaluate_model(retraining: Retraining, model_version: int | None, episodes: int, seed: int) -> dict[str, Any]:
    """Runs a model version in simulation; the same call again is answered from its record.

    Args:
        retraining: Workspace and parameters.
        model_version: Of the target; its champion if None.
        episodes: Scenes.
        seed: Another one picks other scenes than those that the gate has judged it on.

    Returns:
        `model_version`, `bundle`, `evidence` (digest), `summary`.
    """
    from posa_vla.evidence.record import read_evidence
    from posa_vla.evidence.summary import summary
    from posa_vla.seeds import scene_seeds

    workspace, target = retraining.workspace, retraining.params.target
    version, bundle = bundle_of(workspace, target, model_version)
    evaluate = retraining.params.evaluate.model_copy(update={"episodes": episodes})
    inputs = {
        "bundle": bundle,
        "embodiment": retraining.embodiment_key(),
        "task": retraining.target.task,
        "evaluate": evaluate.model_dump(mode="json"),
        "image_size": retraining.params.collect.image_size,
        "seed": seed,
        "code": code_digest(EVALUATION_CODE),
    }

    def work(key: str) -> dict[str, Any]:
        seeds = scene_seeds(bundle if seed == 0 else sha256_json([bundle, seed]), episodes)
        return {"evidence": run_policy(retraining, bundle, seeds, f"evaluations/{key}/{bundle}").digest}

    done = retraining.keep(
        retraining.ledger.step(
            "evaluate-sim", inputs, work, sound=lambda out: evidence_path(workspace, out["evidence"]).is_file()
        )
    )
    figures = summary(read_evidence(evidence_path(workspace, done["evidence"])))
    return {"model_version": version, "bundle": bundle, **done, "summary": figures}


def run_evaluation(
    workspace: Workspace, params: Params, model_version: int | None, episodes: int, seed: int
) -> dict[str, Any]:
    """`evaluate_model` on a workspace that nobody else holds."""
    with open_retraining(workspace, params, "an evaluation") as retraining:
        return evaluate_model(retraining, model_version, episodes, seed)
