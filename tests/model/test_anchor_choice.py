"""What is settled of the anchors where parameters leave it to the data, and how that is said."""

from __future__ import annotations

from factories import make_embodiment
from manifests import make_manifest
from training_params import quick_params

from posa_vla.model.anchor_choice import choose_anchors
from posa_vla.params import Params
from posa_vla.params_file import overlaid

TAUGHT, SPARSE, UNCOUNTED = (make_manifest(make_embodiment(), task=share) for share in (0.6, 0.03, None))


def gated(gate: str, **train: object) -> Params:
    return overlaid(quick_params(**train), {"model": {"gate": gate}}, "test")


def test_data_that_teach_the_anchors_settle_nothing_but_the_gate() -> None:
    chosen = choose_anchors(gated("auto"), TAUGHT)
    assert chosen.params == gated("max")
    assert chosen.words == "model.gate=auto is max: 60.0% of the frames have a task label"
    assert choose_anchors(gated("auto"), UNCOUNTED).params == gated("max")
    assert choose_anchors(gated("streams"), TAUGHT).params == gated("streams")
    assert choose_anchors(gated("streams"), TAUGHT).words == ""


def test_sparse_labels_leave_the_anchors_out_and_each_value_that_is_set_aside_is_said() -> None:
    chosen = choose_anchors(gated("auto", anchor_weight=2.5), SPARSE)
    assert (chosen.params.model.gate, chosen.params.model.anchor_tokens) == ("none", False)
    assert (chosen.params.train.anchor_weight, chosen.params.train.anchor_only_steps) == (0, 0)
    assert chosen.words.startswith("3.0% of the frames have a task label, expected 5% at least")
    assert chosen.words.endswith(
        "model.gate=auto leaves them out: model.gate none, not auto; model.anchor_tokens false, not true; "
        "train.anchor_only_steps 0, not 3; train.anchor_weight 0.0, not 2.5"
    )
    assert choose_anchors(chosen.params, SPARSE).params == chosen.params, "what is settled stays so"


def test_a_gate_that_is_asked_for_stays_with_tokens_and_loss() -> None:
    asked = choose_anchors(gated("max"), SPARSE)
    assert asked.params == gated("max")
    assert asked.words.endswith("model.gate=max was asked for, and stays")
    without = choose_anchors(gated("none", anchor_weight=0.5), SPARSE)
    assert without.params == gated("none", anchor_weight=0.5)
    assert "nothing teaches the anchors" in without.words
