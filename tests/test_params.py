from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from mlflow.utils.validation import _validate_experiment_name, _validate_model_name

from flows.form import NO_CHANGES, resolve
from posa_vla.errors import BadInput
from posa_vla.files import safe_join
from posa_vla.params_file import load_params
from posa_vla.release.channel import bundle_path
from posa_vla.validation_params import RuleParams, ValidateParams
from posa_vla.yaml_file import yaml_text

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "params.yaml"


def test_the_shipped_file_spells_out_every_rule_of_the_validation_as_it_is_by_default():
    rules = yaml.safe_load(SHIPPED.read_text())["validation"]
    assert list(rules) == list(ValidateParams.model_fields)
    assert load_params(SHIPPED).validation == ValidateParams()


@pytest.mark.parametrize("spelt_out", [True, False])
def test_half_a_rule_changes_that_half(tmp_path, spelt_out):
    value = yaml.safe_load(SHIPPED.read_text())
    if not spelt_out:
        del value["validation"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(value))
    settings = ["validation.black.severity=warning", "validation.jumps.threshold=0.7"]
    changed = load_params(tmp_path / "params.yaml", settings=settings).validation
    assert changed.black == RuleParams(severity="warning", threshold=0.2)
    assert changed.jumps == RuleParams(severity="warning", threshold=0.7)
    assert changed.model_copy(update={"black": ValidateParams().black, "jumps": ValidateParams().jumps}) == (
        ValidateParams()
    )


def test_the_paper_s_recipe_is_the_paper_s():
    params = load_params(SHIPPED, "paper")
    train, model, prepare = params.train, params.model, params.prepare
    assert (train.batch, train.steps, train.anchor_only_steps, train.warmup_steps) == (16, 200_000, 20_000, 2000)
    assert (train.learning_rate, train.weight_decay) == (3e-4, 1e-6)
    assert (train.anchor_alpha, train.anchor_weight) == (0.5, 1.0)
    assert (model.horizon, model.flow_steps, model.solver, model.channels) == (30, 10, "euler", "both")
    assert (model.encoders.kind, model.encoders.tuning, model.encoders.dense) == ("pretrained", "frozen", "dinov2")
    assert (prepare.sigma_task, prepare.sigma_end, prepare.image_size) == (1 / 10, 1 / 15, 224)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.width=20", "multiple of 8"),
        ("model.flow_heads=1,model.flow_width=17", "must be even"),
        ("model.flow_width=130", "multiple of flow_heads"),
    ],
)
def test_widths_that_no_network_has_are_named(setting, message):
    with pytest.raises(BadInput, match=message):
        load_params(SHIPPED, settings=setting.split(","))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("validation.blck.severity=off", "did you mean 'black'"),
        ("validation.black.severty=off", "did you mean 'severity'"),
        ("validation.black=off", "validation.black"),
        ("validation.black.threshold=-1", "greater than or equal to 0"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(setting, message):
    with pytest.raises(BadInput, match=message):
        load_params(SHIPPED, settings=[setting])


def _with_targets(path: Path, *names: str) -> Path:
    target = {"embodiment": "sim_arm6", "task": "pick", "approvals": 0}
    path.write_text(yaml_text({"target": names[0], "targets": dict.fromkeys(names, target)}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name",
    ["pick/sim", "pick:sim", "pick sim", "pick's", "..", ".hidden", "-sim", "", "würfel", "a\nb", "a%2fb", "x" * 101],
)
def test_a_target_s_name_that_a_store_would_refuse_is_refused_when_parameters_are_read(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match=r"(?s)params\.yaml: targets\..*no name of a target.*expected letters"):
        load_params(_with_targets(tmp_path / "params.yaml", name))


@pytest.mark.parametrize("name", ["decisions", "Decisions", "Default"])
def test_a_target_s_name_is_not_one_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"no name of a target: .* is named so"):
        load_params(_with_targets(tmp_path / "params.yaml", name))


@pytest.mark.parametrize("names", [("pick", "Pick"), ("pick", "pick-ablation")])
def test_two_targets_have_no_place_in_common(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match=r"targets: .*'pick"):
        load_params(_with_targets(tmp_path / "params.yaml", *names))


@pytest.mark.parametrize("name", ["sim-pick", "Bench_2.left", "7dof", "2024", "off", "1e3", "x" * 100])
def test_every_target_that_is_taken_can_be_chosen(tmp_path: Path, name: str) -> None:
    path = _with_targets(tmp_path / "params.yaml", "other", name)
    assert resolve(None, name, NO_CHANGES, str(path)).target == name


@pytest.mark.parametrize("name", ["sim-pick", "Bench_2.left", "7dof", "x" * 100])
def test_mlflow_and_the_channel_take_every_name_of_a_target(name: str) -> None:
    _validate_model_name(name)
    _validate_experiment_name(f"{name}-ablation")  # type: ignore[no-untyped-call]  # MLflow has no types
    path = bundle_path(name, "0" * 64, "policy.safetensors")
    assert safe_join(ROOT, path) == ROOT / path
    assert quote(path) == path
