from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from posa_vla.errors import BadInput
from posa_vla.params_file import load_params
from posa_vla.validation_params import RuleParams, ValidateParams

SHIPPED = Path(__file__).parents[1] / "params.yaml"


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
