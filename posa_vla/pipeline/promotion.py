"""Promotion alone: the trained candidate of some parameters before the gate, and onto the channel if it passes."""

from __future__ import annotations

import time

from posa_vla.errors import BadInput
from posa_vla.evidence.offline import OfflineFigures
from posa_vla.evidence.summary import Summary
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announce, silent
from posa_vla.pipeline.context import open_context, timed
from posa_vla.pipeline.steps.bundle import bundle
from posa_vla.pipeline.steps.decide import decide
from posa_vla.pipeline.steps.evaluate import evaluate
from posa_vla.pipeline.steps.offline import offline
from posa_vla.pipeline.steps.register import register
from posa_vla.pipeline.steps.release import release
from posa_vla.pipeline.steps.train import find_trained
from posa_vla.pipeline.steps.version import find_data
from posa_vla.pipeline.summary import Ruling
from posa_vla.pipeline.target import require_target
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class PromotionOutcome(Closed):
    """The document of `posa promote --json`.

    Attributes:
        bundle: Digest of the candidate.
        data: Name of the data version that it learned from.
        evaluation: The candidate's figures in simulation; None where the target asks for none.
        offline: Its errors on held-out episodes: no evidence of success.
        decision: The verdict on it.
        model_version: Version of the target's registered model.
        release: Number of the release; None where nothing was released.
        pending: What is missing for a release, in words, or None.
        seconds: Time that the promotion took.
    """

    bundle: str
    data: str
    evaluation: Summary | None
    offline: OfflineFigures | None
    decision: Ruling
    model_version: str
    release: int | None
    pending: str | None
    seconds: float

    def released(self) -> str:
        """What was released, in words."""
        return self.pending or (f"release {self.release}" if self.release is not None else "nothing")


def run_promotion(workspace: Workspace, params: Params, announce: Announce = silent) -> PromotionOutcome:
    """Judges, registers and, after "promote", releases what was trained with `params`; done steps are reused.

    Raises:
        BadInput: Nothing was trained with these parameters on the data as it is.
    """
    start = time.monotonic()
    require_target(workspace, params)
    with open_context(workspace, params, "posa promote", announce) as context:
        data = find_data(context)
        trained = None if data is None else find_trained(context, data)
        if data is None or trained is None:
            raise BadInput(
                f"workspace {workspace.home} holds no candidate of these parameters: posa retrain trains one"
            )
        candidate = bundle(context, trained)
        replayed = offline(context, candidate)
        decided = decide(context, evaluate(context, replayed) if context.simulates else replayed)
        registered = register(context, decided)
        released = release(context, registered) if decided.verdict == "promote" else None
        return PromotionOutcome(
            bundle=candidate.digest,
            data=data.name,
            evaluation=decided.evaluated.summary,
            offline=None if decided.evaluated.offline is None else decided.evaluated.offline.figures,
            decision=Ruling.of(decided),
            model_version=registered.model_version,
            release=released.release if released else None,
            pending=released.pending if released else None,
            seconds=timed(start),
        )
