"""Facts of a retraining that never was, for tests of the page that tells them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.params import GateParams
from posa_vla.pipeline.report.facts import Changes, DataChanges, Origin, RetrainingFacts
from posa_vla.pipeline.report.gather import measured
from posa_vla.promotion.gate import decide

CHANGES = Changes(
    data=DataChanges(
        before="data-v2",
        after="data-v3",
        came={"ab" * 32: 8},
        went=0,
        quarantined=1,
        released=0,
        shifts={"state": 0.12},
        params={"prepare.image_size": ("64", "96")},
    ),
    parameters={"train.steps": ("30", "60"), "model.width": ("32", "")},
    commits=["c735dd0 Tests: one more"],
    unknown={},
)


def evidence(policy: str, solved: Collection[int], count: int = 30) -> Evidence:
    rows = [EpisodeRow(scene_seed=100 + i, success=i in solved, steps=20, path_length=0.3) for i in range(count)]
    return Evidence(
        policy_digest=policy * 64, suite={}, planned=count, rows=rows, hardware="x86_64, 2 CPUs, Linux", versions={}
    )


def origin(version: str, letter: str, data_name: str) -> Origin:
    return Origin(
        model_version=version,
        run_id=letter * 32,
        bundle=letter * 64,
        data_version=letter * 64,
        data_name=data_name,
        commit=letter * 40,
        dirty=False,
    )


def facts(solved: int = 27, champion: int | None = 20, **over: Any) -> RetrainingFacts:
    """A candidate that solved so many of 30 scenes, against a champion that did, if there is one."""
    ours = evidence("a", range(solved))
    theirs = None if champion is None else evidence("b", range(champion))
    value: dict[str, Any] = {
        "target": "sim-pick",
        "embodiment": "sim_arm6",
        "simulated": True,
        "task": "pick",
        "preset": "demo",
        "decision": decide("sim-pick", GateParams(), ours, theirs),
        "candidate": origin("3", "a", "data-v3"),
        "success": measured(ours),
        "champion": None if theirs is None else origin("2", "b", "data-v2"),
        "champion_success": None if theirs is None else measured(theirs),
        "itself": False,
        "compared": None if theirs is None else (max(solved - (champion or 0), 0), max((champion or 0) - solved, 0)),
        "episodes": [],
        "recorded": 0,
        "changes": None if theirs is None else CHANGES,
        "hardware": ours.hardware,
    }
    return RetrainingFacts(**{**value, **over})
