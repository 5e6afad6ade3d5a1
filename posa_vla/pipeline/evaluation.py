"""Evaluate a registered model in simulation, on more or other scenes."""

from __future__ import annotations

from posa_vla.code_digest import code_digest
from posa_vla.console import say
from posa_vla.errors import BadInput
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.evidence.summary import Summary
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.pipeline.context import StepContext, open_context
from posa_vla.pipeline.steps.evaluate import EVALUATION_CODE, run_policy
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.pipeline.target import require_simulator
from posa_vla.policy.execution import JUDGED, asked_execution
from posa_vla.promotion.champion import promotion_log
from posa_vla.schema import Closed
from posa_vla.seeds import scene_seeds
from posa_vla.workspace import Workspace


class RolledOut(Closed):
    """Rollouts of a policy.

    Attributes:
        evidence: Digest of their record.
    """

    evidence: str


class ModelEvaluation(Closed):
    """What `evaluate_model` found.

    Attributes:
        model_version: Version of the target's registered model.
        bundle: Digest of its bundle.
        evidence: Digest of the record.
        summary: Figures of its rollouts.
    """

    model_version: str
    bundle: str
    evidence: str
    summary: Summary


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


def evaluate_model(context: StepContext, model_version: int | None, episodes: int, seed: int) -> ModelEvaluation:
    """Runs a model version in simulation as it was judged; the same call again is answered from its record.

    What the parameters say of its execution is for policies that are made anew; where they name something else, that is
    said. `posa evaluate sim` runs a bundle in another way.

    Args:
        context: Workspace and parameters.
        model_version: Version of the target's registered model; the champion's if None.
        episodes: Scenes.
        seed: Another one picks other scenes than those that the gate has judged it on.
    """
    workspace, target = context.workspace, context.params.target
    version, bundle = bundle_of(workspace, target, model_version)
    way = judged_with(workspace, target, bundle)
    evaluate = context.params.evaluate.model_copy(update={"episodes": episodes})
    differing = asked_execution(evaluate, way).otherwise(way)
    if differing:
        asked = ", ".join(f"{name} {got} (judged: {judged})" for name, (got, judged) in differing.items())
        say(f"model version {version} runs as it was judged, not as the parameters say: {asked}")
    inputs = {
        "bundle": bundle,
        "execution": way.model_dump(mode="json", include=set(JUDGED)),
        "embodiment": context.embodiment_key(),
        "task": context.target.task,
        "evaluate": evaluate.model_dump(mode="json"),
        "image_size": context.params.collect.image_size,
        "seed": seed,
        "code": code_digest(EVALUATION_CODE),
    }

    def work(key: str) -> RolledOut:
        seeds = scene_seeds(bundle if seed == 0 else sha256_json([bundle, seed]), episodes)
        return RolledOut(evidence=run_policy(context, bundle, seeds, f"evaluations/{key}/{bundle}", way).digest)

    done = context.keep(
        context.ledger.step(
            "evaluate-sim",
            inputs,
            RolledOut,
            work,
            sound=lambda made: evidence_path(workspace, made.evidence).is_file(),
        )
    )
    figures = Summary.of(read_evidence(evidence_path(workspace, done.evidence)))
    return ModelEvaluation(model_version=version, bundle=bundle, evidence=done.evidence, summary=figures)


def run_evaluation(
    workspace: Workspace, params: Params, model_version: int | None, episodes: int, seed: int
) -> ModelEvaluation:
    """`evaluate_model` on a workspace that nobody else holds."""
    require_simulator(params, "an evaluation in simulation")
    with open_context(workspace, params, "an evaluation") as context:
        return evaluate_model(context, model_version, episodes, seed)
