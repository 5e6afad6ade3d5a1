"""A policy keeps the execution that it was made for, or that all had before bundles said it, whatever the defaults."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from other_defaults import DEFAULTS, other_defaults
from releases import EXECUTION, make_bundle
from untrained import arm_params

from posa_vla.errors import BadInput
from posa_vla.evidence.record import read_evidence
from posa_vla.files import read_json, write_json
from posa_vla.model.config import read_config
from posa_vla.model.posa_policy import load_policy
from posa_vla.params import EvaluateParams, Params
from posa_vla.policy.execution import Execution, asked_execution
from posa_vla.policy.made_for import EXECUTION_FILE, made_for, own_execution, said_execution
from posa_vla.promotion.drafting import execution_of_evidence, require_recordable
from posa_vla.release.bundle import MANIFEST, build_bundle, verify_bundle
from posa_vla.release.record import read_record
from posa_vla.robot.agent.terms import RunSettings, terms_of
from posa_vla.schema import parse

GOLDEN = Path(__file__).parents[1] / "golden"
# How policies were run when the golden one was made; its own flow has two steps.
THEN = Execution(execute=4, committed=0, ensemble=None, flow_steps=2, start_noise=1.0, max_steps=60)


@pytest.fixture
def changed() -> Iterator[None]:
    with other_defaults():
        assert EvaluateParams().start_noise == DEFAULTS["start_noise"]
        assert parse(Params, _values(), "test").evaluate.max_steps == DEFAULTS["max_steps"]
        yield


def _values(record: int = 2, **evaluate: object) -> dict[str, object]:
    target = {"embodiment": "sim_arm6", "task": "pick", "approvals": 0, "record": record}
    return {**arm_params().model_dump(mode="json"), "targets": {"t": target}, "evaluate": evaluate}


def params(record: int = 2, **evaluate: object) -> Params:
    return parse(Params, _values(record, **evaluate), "test")


@pytest.mark.usefixtures("changed")
def test_an_older_bundle_evidence_and_record_keep_theirs_when_defaults_change() -> None:
    assert said_execution(GOLDEN / "policy-1") is None
    assert own_execution(GOLDEN / "policy-1", read_config(GOLDEN / "policy-1").params.flow_steps) == THEN
    policy = load_policy(GOLDEN / "policy-1", "d")
    assert (policy.made_for, policy.flow_steps, policy.sampled_steps, policy.start_noise) == (None, 2, 2, 1.0)
    old = read_evidence(GOLDEN / "evidence-1.json")
    assert execution_of_evidence(old, GOLDEN / "policy-1") == THEN
    record = read_record((GOLDEN / "release-record-1.dsse.json").read_bytes())
    assert terms_of(record, RunSettings()).execution == THEN.model_copy(update={"flow_steps": None})
    assert asked_execution(EvaluateParams(), THEN) == THEN.model_copy(update={"max_steps": DEFAULTS["max_steps"]})


def test_an_older_configuration_that_names_no_flow_steps_has_those_of_then(tmp_path: Path) -> None:
    config = read_json(GOLDEN / "policy-1" / "config.json")
    del config["params"]["flow_steps"]
    write_json(tmp_path / "config.json", config)
    assert read_config(tmp_path).params.flow_steps == 6


def test_a_bundle_says_what_it_was_made_for_and_its_policy_is_sampled_so(tmp_path: Path) -> None:
    bundle = build_bundle(GOLDEN / "policy-1", tmp_path, EXECUTION)
    assert set(verify_bundle(bundle.folder, bundle.digest).files) == {
        *(path.name for path in (GOLDEN / "policy-1").iterdir()),
        EXECUTION_FILE,
    }
    assert own_execution(bundle.folder, 9) == said_execution(bundle.folder) == EXECUTION
    policy = load_policy(bundle.folder, bundle.digest)
    assert (policy.made_for, policy.flow_steps, policy.sampled_steps, policy.start_noise) == (EXECUTION, 3, 3, 0.5)
    other = policy.with_flow(None, 0.0)
    assert (other.flow_steps, other.sampled_steps, other.start_noise) == (3, 3, 0.0)
    # The same weights for another execution are another bundle; what is sealed says it, whatever the folder said.
    other_way = build_bundle(GOLDEN / "policy-1", tmp_path, THEN)
    assert other_way.digest != bundle.digest
    files = tmp_path / "files"
    shutil.copytree(bundle.folder, files, ignore=shutil.ignore_patterns(MANIFEST))
    assert build_bundle(files, tmp_path).digest == bundle.digest
    assert build_bundle(files, tmp_path, THEN).digest == other_way.digest


def test_a_damaged_execution_is_one_message(tmp_path: Path) -> None:
    made = make_bundle(tmp_path).folder
    write_json(made / EXECUTION_FILE, {"schema_version": 1, "execution": {"execute": 4, "noise": 1}})
    with pytest.raises(BadInput, match=rf"{EXECUTION_FILE}: unknown key execution.noise"):
        said_execution(made)
    write_json(made / EXECUTION_FILE, {"schema_version": 2})
    with pytest.raises(BadInput, match=rf"{EXECUTION_FILE} was written by a later posa-vla"):
        said_execution(made)


def test_new_policies_are_made_for_the_defaults_of_today() -> None:
    with other_defaults():
        assert made_for(params(), 2) == Execution(**DEFAULTS)
        # Older agents take releases of these records, and would not know.
        older = Execution(**{**DEFAULTS, "flow_steps": 2, "start_noise": 1.0})
        assert made_for(params(record=1), 2) == older
        require_recordable(params(record=1))
        assert made_for(params(record=1, start_noise=0.5, flow_steps=3), 2).start_noise == 0.5
    assert made_for(params(), 2) == THEN


@pytest.mark.parametrize("way", [{"start_noise": 0}, {"flow_steps": 3}])
def test_what_records_of_version_1_cannot_say_is_refused_before_any_work(way: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"parameters ask for .*records of version 1.*robots would run noise 1 and 2 st"):
        require_recordable(params(record=1, **way))
    require_recordable(params(record=2, **way))
    require_recordable(params(record=1, start_noise=1, flow_steps=2))


def test_an_evaluation_runs_a_policy_in_its_own_way_but_for_what_is_named() -> None:
    named = parse(EvaluateParams, {"start_noise": 0, "max_steps": 9}, "test")
    asked = asked_execution(named, EXECUTION)
    assert asked == EXECUTION.model_copy(update={"start_noise": 0.0, "max_steps": 9})
    assert asked.otherwise(EXECUTION) == {"start_noise": (0.0, 0.5)}
    same = parse(EvaluateParams, {"start_noise": 0.5, "flow_steps": None}, "test")
    assert asked_execution(same, EXECUTION).otherwise(EXECUTION) == {}
    with pytest.raises(BadInput, match="an ensemble looks at every step"):
        asked_execution(parse(EvaluateParams, {"ensemble": 0.1}, "test"), EXECUTION)
