"""Evaluate a registered model in simulation once more, on other scenes, without deciding anything."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.champion import promotion_log
from flows.changes import NO_CHANGES, resolve
from flows.evaluate import EVALUATION_CODE, evidence_path, run_policy
from flows.retraining import Retraining, open_retraining
from flows.summary import success_text
from posa_vla.code_digest import code_digest
from posa_vla.console import also_to
from posa_vla.errors import BadInput
from posa_vla.files import sha256_json
from posa_vla.params import Params
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
    from posa_vla.evaluation.metrics import summary
    from posa_vla.evidence.evidence import read_evidence
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


@flow(name="evaluate-sim")
def evaluate_sim(
    model_version: int | None = None,
    episodes: int = Field(default=50, ge=1, le=10_000),
    seed: int = Field(default=1, ge=0),
    target: str | None = None,
    params_file: str = "params.yaml",
) -> dict[str, Any]:
    """A registered model in simulation, on scenes of its own; nothing is decided or released.

    Args:
        model_version: Number of the target's registered model; empty for the champion.
        episodes: Scenes.
        seed: 0 for the scenes that the gate judged it on, any other number for others.
        target: Deployment target; empty for the parameter file's own choice.
        params_file: Parameter file on the machine that runs the flow.
    """
    params = resolve(None, target, NO_CHANGES, params_file)
    with also_to(get_run_logger().info):
        result = run_evaluation(Workspace.open(), params, model_version, episodes, seed)
    rows = "\n".join(f"| {name} | {value} |" for name, value in result["summary"].items())
    create_markdown_artifact(
        f"# Model version {result['model_version']}: {success_text(result['summary'])}\n\n"
        "| figure | value |\n|---|---|\n"
        f"{rows}\n\nEvidence `{result['evidence']}`\n",
        key="evaluate-sim",
    )
    return result
