"""Hold a candidate against held-out episodes of its data: no evidence of success, and none of it decides alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posa_vla.code_digest import code_digest
from posa_vla.dataset.shards.manifest import read_manifest
from posa_vla.errors import BadInput
from posa_vla.evidence.offline import OfflineEvidence, OfflineFigures, offline_path, write_offline
from posa_vla.objects.contract import Objects
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Candidate, Evaluated, Replayed, Trained
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.pipeline.steps.lineage import may_know
from posa_vla.policy.execution import Execution

# The code that decides what the errors and films are, given the policy's files; how these act is part of it.
_CODE = ("posa_vla.evaluation.offline", "posa_vla.evaluation.offline_films", "posa_vla.model.posa_policy")
# Episodes that are filmed, the worst.
_FILMS = 3


def offline(context: StepContext, candidate: Candidate) -> Evaluated:
    """Asks the candidate along the held-out episodes of its data, as it was made to be run, and films the worst."""
    workspace, data, bundle = context.workspace, candidate.data, candidate.digest
    way = judged_with(workspace, context.params.target, bundle)
    start = candidate.source.start if isinstance(candidate.source, Trained) else None
    knows = start is not None and may_know(workspace, start, data.version)

    def work(key: str) -> Evaluated:
        reports = f"evaluations/{key}/offline"
        place = workspace.bundles / bundle
        evidence = replay(place, bundle, workspace.home / data.folder, data.version, way, workspace.storage, reports)
        evidence = evidence.model_copy(update={"may_know": knows})
        write_offline(offline_path(workspace, evidence.digest), evidence)
        done = Replayed(evidence=evidence.digest, figures=OfflineFigures.of(evidence), reports=reports)
        return Evaluated(candidate=candidate, offline=done)

    inputs = {
        "bundle": bundle,
        "data_version": data.version,
        "execution": way.model_dump(mode="json"),
        "code": code_digest(*_CODE),
        **({"may_know": True} if knows else {}),
    }

    def sound(made: Evaluated) -> bool:
        return made.offline is not None and offline_path(workspace, made.offline.evidence).is_file()

    result = context.ledger.step("offline", inputs, Evaluated, work, sound=sound, before={"candidate": candidate})
    return context.keep(result)


def replay(
    folder: Path, digest: str, data: Path, data_version: str, way: Execution, storage: Objects, reports: str
) -> OfflineEvidence:
    """Evaluates a policy offline, and leaves the films of the worst episodes in the storage.

    Args:
        folder: Of the policy.
        digest: Its bundle's.
        data: Prepared data.
        data_version: Its digest.
        way: How the policy is run.
        storage: Where the films go.
        reports: Folder there.

    Raises:
        BadInput: The data are of another robot than the policy's, or damaged.
    """
    import torch

    from posa_vla.evaluation.held_out import PackedEpisodes
    from posa_vla.evaluation.offline import evaluate_offline
    from posa_vla.evaluation.offline_films import film, film_path
    from posa_vla.model.posa_policy import load_policy

    policy, robot = load_policy(folder, digest), read_manifest(data).embodiment
    mine, theirs = ([c.name for c in (*e.state, *e.action)] for e in (policy.embodiment, robot))
    if mine != theirs:
        raise BadInput(
            f"the policy is for embodiment {policy.embodiment.id!r}, and {data} holds episodes of {robot.id!r}, which "
            "has other channels: give the data that it was trained on, or newer ones of its robot"
        )
    if torch.cuda.is_available():
        policy = policy.to(torch.device("cuda"))
    result = evaluate_offline(policy, data, way, data_version=data_version)
    held_out = PackedEpisodes(data, "validation")
    scale = np.array([channel.scale for channel in result.evidence.channels])
    for worst in result.replays[:_FILMS]:
        made = film(worst, held_out, policy.embodiment.action, scale)
        storage.put(film_path(reports, made.number), made.video)
    return result.evidence
