"""An untrained candidate before the gate of a finished retraining: the same steps, up to the verdict."""

from __future__ import annotations

import time

from posa_vla.errors import BadInput
from posa_vla.evidence.summary import Summary
from posa_vla.params import Params
from posa_vla.pipeline.context import open_context, timed
from posa_vla.pipeline.records import RobotReport
from posa_vla.pipeline.steps.bundle import bundle_untrained
from posa_vla.pipeline.steps.decide import decide
from posa_vla.pipeline.steps.evaluate import evaluate
from posa_vla.pipeline.steps.offline import offline
from posa_vla.pipeline.steps.robot import robot_state
from posa_vla.pipeline.steps.version import find_data
from posa_vla.pipeline.summary import Ruling
from posa_vla.pipeline.target import require_simulator
from posa_vla.promotion.champion import champion_bundle
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class RejectionOutcome(Closed):
    """The document of `posa demo reject --json`.

    Attributes:
        bundle: Digest of the untrained candidate.
        evaluation: The untrained candidate's figures.
        decision: The verdict on it.
        robot: What the simulated robot runs, unchanged.
        seconds: Time that the demonstration took.
    """

    bundle: str
    evaluation: Summary
    decision: Ruling
    robot: RobotReport
    seconds: float


def run_reject(workspace: Workspace, params: Params, options: str) -> RejectionOutcome:
    """Judges an untrained candidate against the champion; nothing is registered or released.

    Args:
        workspace: A workspace with a finished retraining.
        params: Parameters of that retraining.
        options: How the retraining is called, for the message.

    Raises:
        BadInput: The workspace has no champion, or no data of these parameters.
    """
    start = time.monotonic()
    require_simulator(params, "posa demo reject")
    with open_context(workspace, params, "posa demo reject") as context:
        data = find_data(context)
        if data is None or champion_bundle(workspace, params.target) is None:
            raise BadInput(f"workspace {workspace.home} has no champion to defend: run `posa retrain {options}` first")
        candidate = bundle_untrained(context, data)
        evaluated = evaluate(context, offline(context, candidate))
        assert evaluated.summary is not None  # for the type checker: it was simulated
        decided = decide(context, evaluated)
        return RejectionOutcome(
            bundle=candidate.digest,
            evaluation=evaluated.summary,
            decision=Ruling.of(decided),
            robot=robot_state(workspace, params.target),
            seconds=timed(start),
        )
