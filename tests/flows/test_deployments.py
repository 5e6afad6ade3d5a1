"""What a Prefect server offers to start: it loads, its forms explain themselves, and nothing retrains by itself."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.form import Changes, Preset, resolve
from posa_vla.errors import BadInput
from posa_vla.params_file import shipped_presets

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"].partition(":")[2])
def test_every_form_is_typed_described_and_filled_in(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    schema = load_flow_from_entrypoint(deployment["entrypoint"]).parameters.model_dump()
    asked = {name for name in schema["properties"] if "default" not in schema["properties"][name]}
    assert asked == ({"reason"} if deployment["entrypoint"].endswith("rollback") else set())
    for field in schema["properties"].values():
        assert field["description"]
        assert {"type", "anyOf", "$ref"} & set(field)
    for model in schema["definitions"].values():
        assert all(field["description"] for field in model["properties"].values())


def test_only_reconciliation_runs_unless_somebody_switches_it_on() -> None:
    active = [d["entrypoint"] for d in DEPLOYMENTS for schedule in d.get("schedules", []) if schedule["active"]]
    assert active == ["flows/reconcile.py:reconcile"]


def test_the_form_offers_the_shipped_presets() -> None:
    assert set(typing.get_args(Preset)) == set(shipped_presets())


def test_what_a_form_changes_is_in_the_resolved_parameters() -> None:
    file = str(ROOT / "params.yaml")
    changes = Changes(
        demonstrations=7, training_steps=8, training_seed=9, evaluation_episodes=10, settings=["robot.episodes=2"]
    )
    params = resolve("tiny", None, changes, file)
    assert (params.collect.episodes, params.train.steps, params.train.seed, params.evaluate.episodes) == (7, 8, 9, 10)
    assert params.robot.episodes == 2
    with pytest.raises(BadInput, match="unknown target 'sim-pikc'; did you mean 'sim-pick'"):
        resolve(None, "sim-pikc", Changes(), file)
