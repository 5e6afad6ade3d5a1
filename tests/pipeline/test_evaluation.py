"""Which registered model an evaluation on request runs, and that it neither decides nor repeats anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from candidates import candidate, make_workspace, two_releases
from untrained import arm_params

from posa_vla.errors import BadInput
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.evaluation import bundle_of, run_evaluation
from posa_vla.pipeline.rollback import roll_back
from posa_vla.promotion.champion import promotion_log
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


def test_the_champion_is_meant_where_no_version_is_named(tmp_path: Path) -> None:
    workspace, params, (first, second) = two_releases(tmp_path)
    assert bundle_of(workspace, "t", None) == ("2", second.bundle.digest)
    assert bundle_of(workspace, "t", 1) == ("1", first.bundle.digest)
    with pytest.raises(BadInput, match="'t' has no model version 3: it has 1, 2"):
        bundle_of(workspace, "t", 3)
    roll_back(workspace, params, None, "drops cubes")
    assert bundle_of(workspace, "t", None) == ("1", first.bundle.digest)
    assert bundle_of(workspace, "t", 2) == ("2", second.bundle.digest)


def test_a_target_without_a_champion_asks_for_a_version(tmp_path: Path) -> None:
    params, workspace = arm_params(), make_workspace(tmp_path)
    with pytest.raises(BadInput, match="no champion yet: name a model version"):
        bundle_of(workspace, "t", None)
    with pytest.raises(BadInput, match="no model version 1: it has none"):
        bundle_of(workspace, "t", 1)
    with open_context(workspace, params, "test") as context:
        made = candidate(context, params, tmp_path / "policy")
        made.promote(solved=5)
    with pytest.raises(BadInput, match="no champion yet"):
        bundle_of(workspace, "t", None)
    assert bundle_of(workspace, "t", 1) == ("1", made.bundle.digest)  # refused, and there to be looked at


def test_an_evaluation_is_done_once_and_decides_nothing(tmp_path: Path) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    log = promotion_log(workspace, "t").entries()
    done = run_evaluation(workspace, params, None, episodes=2, seed=1)
    assert (done.model_version, done.bundle) == ("2", second.bundle.digest)
    assert done.summary.episodes == 2
    assert (workspace.evidence / f"{done.evidence}.json").is_file()
    without_ray = Workspace.open(Settings(home=workspace.home, ray_address="no-cluster"))
    assert run_evaluation(without_ray, params, 2, episodes=2, seed=1) == done
    with pytest.raises(BadInput, match="POSA_RAY_ADDRESS"):
        run_evaluation(without_ray, params, 2, episodes=2, seed=2)  # other scenes
    larger = arm_params(collect={"image_size": 64})
    with pytest.raises(BadInput, match="POSA_RAY_ADDRESS"):
        run_evaluation(without_ray, larger, 2, episodes=2, seed=1)  # other pictures
    assert promotion_log(workspace, "t").entries() == log
