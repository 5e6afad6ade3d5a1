"""Runs a suite in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from posa_vla.console import progress
from posa_vla.evaluation.environments import TOGETHER, open_environment
from posa_vla.evaluation.rollout import Environment, run_episodes
from posa_vla.evaluation.rows import Rows, gather
from posa_vla.evidence.record import Evidence
from posa_vla.evidence.suite import Suite
from posa_vla.objects.open import open_objects
from posa_vla.policy.policy import Policy


def evaluate(
    policy: Policy,
    suite: Suite,
    out: Path,
    *,
    make: Callable[[Suite], Environment] = open_environment,
) -> Evidence:
    """Runs a policy on every scene in this process; continues where a killed call stopped.

    Args:
        policy: Policy under test.
        suite: Scenes and conditions; of the first `suite.params.videos` scenes a video is kept.
        out: Folder of this evaluation: rows and videos.
        make: Opens the environment.
    """
    from posa_vla.evaluation.pictures import keep_rollout

    suite = suite.model_copy(update={"flow_steps": policy.flow_steps})
    seeds, params = suite.seeds, suite.params
    objects, folder = open_objects(str(out.parent)), out.name
    kept = Rows(objects, folder, policy.digest, suite)
    rows = kept.find(seeds)
    left = [seed for seed in seeds if seed not in rows]
    with ExitStack() as opened, progress("evaluate", len(seeds), done=len(rows), unit="episodes") as advance:
        environments = [opened.enter_context(closing(make(suite))) for _ in range(min(TOGETHER, len(left)))]
        for rollout in run_episodes(policy, environments, left, params, seeds[: params.videos]):
            if rollout.images:
                keep_rollout(objects, folder, rollout)
            kept.add(rollout.row)
            rows[rollout.row.scene_seed] = rollout.row
            advance(1, f"{sum(row.success for row in rows.values())} solved")
    return gather(policy.digest, suite, rows)
