"""The plan of an ablation, and what is made of its rows; the trainings themselves are in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from posa_vla.errors import BadInput
from posa_vla.evaluation.ablation.figures import compare_groups, group_figures
from posa_vla.evaluation.ablation.plan import (
    TUNING,
    AblationPlan,
    Cell,
    cell_params,
    cells,
    condition_params,
    conditions_of,
    load_plan,
    plan_scenes,
)
from posa_vla.evaluation.ablation.report import Results, write_report
from posa_vla.evidence.record import EpisodeRow
from posa_vla.evidence.suite import Suite
from posa_vla.params_file import load_params
from posa_vla.pipeline.ablation import run_ablation
from posa_vla.schema import parse
from posa_vla.seeds import COLLECTION_SEEDS, scene_seeds
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[3]


def rows(plan_scenes: list[int], solved: int, steps: int) -> list[EpisodeRow]:
    return [
        EpisodeRow(scene_seed=seed, success=i < solved, steps=steps if i < solved else 60, path_length=0.5, jerk=0.001)
        for i, seed in enumerate(plan_scenes)
    ]


def test_every_variant_and_condition_of_the_shipped_plan_is_sound() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    seen = set()
    for variant in plan.variants:
        made = cell_params(plan, params, Cell(variant, 1, 50))
        assert made.collect.episodes == 50
        assert made.train.seed == 1
        assert made.train.steps == params.train.steps, "the same budget for all"
        assert made.prepare == params.prepare
        seen.add(json.dumps(made.model_dump(mode="json"), sort_keys=True))
    assert len(seen) == len(plan.variants), "no two variants are the same"
    bare = cell_params(plan, params, Cell("no-anchors", 0, 600))
    assert (bare.model.gate, bare.model.anchor_tokens, bare.train.anchor_weight) == ("none", False, 0)
    for condition in plan.conditions:
        assert condition_params(plan, params, condition).evaluate.episodes == plan.scenes == 100


def test_what_was_held_out_is_met_only_where_the_plan_says() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    from posa_vla.sim.tasks import make_kinds, sample_scene

    def names(condition: str, seed: int) -> tuple[set[str], str]:
        evaluate = condition_params(plan, params, condition).evaluate
        kinds = make_kinds(evaluate.held_out, evaluate.targets, evaluate.objects)
        scene = sample_scene("pick", seed, evaluate.objects, kinds)
        assert len({o.name for o in scene.objects}) == evaluate.objects
        return {o.name for o in scene.objects}, scene.objects[scene.target].name

    for seed in plan_scenes(plan, "basic", 50):
        assert not names("basic", seed)[0] & set(plan.held_out)
        assert names("combinations", seed)[1] in plan.held_out


def test_scenes_follow_from_the_plan_alone() -> None:
    plan = load_plan()
    basic = plan_scenes(plan, "basic", 100)
    assert basic == plan_scenes(plan, "basic", 100)
    assert len(set(basic)) == 100
    assert not set(basic) & set(plan_scenes(plan, "tuning", 50))
    assert not set(basic) & set(scene_seeds("d" * 64, 100))
    assert not any(seed in COLLECTION_SEEDS for seed in basic)


def test_tuning_never_draws_a_scene_that_a_condition_is_judged_on() -> None:
    plan = load_plan().model_copy(update={"name": "crowded-1524", "scenes": 2000})
    judged = set(plan_scenes(plan, "basic", plan.scenes))
    assert judged & set(scene_seeds(f"{plan.name}:{TUNING}", 2000)), "by chance, two of this plan's scenes are one"
    assert not judged & set(plan_scenes(plan, TUNING, 2000))


def test_no_condition_takes_the_tuning_s_scenes() -> None:
    plan = load_plan()
    with pytest.raises(BadInput, match="'tuning' is no name of a condition"):
        parse(AblationPlan, {**plan.model_dump(), "conditions": {**plan.conditions, TUNING: {}}}, "plan")


def test_the_quick_run_comes_first_and_the_full_one_has_everything() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    quick, full = cells(plan, params, full=False), cells(plan, params, full=True)
    assert [(c.variant, c.seed) for c in quick[:2]] == [("full", 0), ("no-anchors", 0)]
    assert len(quick) == 6
    assert full[:6] == quick
    assert {c.variant for c in full} == set(plan.variants)
    assert {c.demonstrations for c in full} == {50, 100, 200, 400, 600}
    assert conditions_of(plan, full[0], params, full=False) == ["basic"]
    assert conditions_of(plan, full[0], params, full=True) == list(plan.conditions)


def test_conditions_are_part_of_what_an_evaluation_says_of_itself() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    described = {json.dumps(Suite.of(condition_params(plan, params, name), [1]).describe()) for name in plan.conditions}
    assert len(described) == len(plan.conditions)


def test_figures_by_hand() -> None:
    scenes = [1, 2, 3, 4]
    full = {0: rows(scenes, 3, 20), 1: rows(scenes, 2, 20)}
    other = {0: rows(scenes, 1, 40), 1: rows(scenes, 1, 40)}
    figures = group_figures(full, {1: (20, 0.25), 2: (20, 0.25)})
    assert figures["success"]["value"] == pytest.approx(5 / 8)
    assert figures["steps"]["value"] == 20
    assert figures["path_over_expert"]["value"] == pytest.approx(2.0)
    assert figures["by_seed"] == {"0": 0.75, "1": 0.5}
    against = compare_groups(full, other)
    assert against["success_difference"]["value"] == pytest.approx(5 / 8 - 2 / 8)
    assert against["steps_ratio"]["value"] == pytest.approx(0.5)
    assert against["both_solved"] == 2


def test_all_or_nothing_still_has_an_interval() -> None:
    scenes = list(range(100))
    none = group_figures({0: rows(scenes, 0, 20), 1: rows(scenes, 0, 20)}, {})["success"]
    assert none["low"] == 0
    assert 0.02 < none["high"] < 0.05, "Clopper and Pearson of 0 in 100"
    assert group_figures({0: rows(scenes, 0, 20)}, {})["steps"]["value"] is None


def test_the_report_says_what_was_not_run(tmp_path: Path) -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    results = Results(plan, params, cells(plan, params, full=False), False)
    scenes = plan_scenes(plan, "basic", plan.scenes)
    results.expert["basic"] = dict.fromkeys(scenes, (20, 0.4))
    for cell in cells(plan, params, full=False):
        solved = 80 if cell.variant == "full" else 0
        results.add(cell, "basic", rows(scenes, solved, 24), "b" * 64, 300.0)
    done = write_report(results, tmp_path)
    text = Path(done.table).read_text()
    assert "| full | 600 | basic | 3 | 80 (" in text
    assert "| no-anchors | 600 | basic | 3 | 0 (" in text
    assert "| none | none | none |" in text, "no figure of what nothing solved"
    assert "+80 (" in text
    assert f"Not run, of the full plan: {len(done.not_run)}" in text
    assert any("no-contrastive" in line for line in done.not_run)
    assert not any(line == "full, 600 demonstrations, seed 0, basic" for line in done.not_run)
    assert Image.open(done.plot).width > 600
    saved = json.loads(Path(done.results).read_text())
    assert len(saved["rows"]) == 6
    assert saved["plan_digest"] == plan.digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": "ful"}, "'ful' is no variant"),
        ({"scene": 10}, "did you mean"),
        ({"quick": ["full"]}, "at least 2"),
        ({"name": "../elsewhere"}, "name"),
        ({"training_seeds": [0, 0]}, "one seed twice"),
    ],
)
def test_a_plan_that_makes_no_sense_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    value = yaml.safe_load((ROOT / "posa_vla" / "evaluation" / "ablation" / "plan.yaml").read_text())
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(value | change))
    with pytest.raises(BadInput, match=words):
        load_plan(tmp_path / "plan.yaml")


def test_a_variant_with_an_unknown_key_is_named(tmp_path: Path) -> None:
    value = yaml.safe_load((ROOT / "posa_vla" / "evaluation" / "ablation" / "plan.yaml").read_text())
    value["variants"]["full"] = {"model": {"gates": "max"}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(BadInput, match=r"variant full: unknown key model\.gates"):
        cell_params(load_plan(tmp_path / "plan.yaml"), load_params(ROOT / "params.yaml"), Cell("full", 0, 8))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("tuning", "chosen", "no-anchor"), 0.1, "'no-anchor' is no variant"),
        (("variants", "no-gate", "model"), {"gates": "none"}, r"variant no-gate: unknown key model\.gates"),
        (("conditions", "lights"), {"lamp": 1}, "condition lights: unknown key"),
    ],
)
def test_a_mistake_anywhere_in_a_plan_is_named_before_anything_is_trained(
    tmp_path: Path, path: tuple[str, ...], value: object, words: str
) -> None:
    plan = yaml.safe_load((ROOT / "posa_vla" / "evaluation" / "ablation" / "plan.yaml").read_text())
    place = plan
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    params = load_params(ROOT / "params.yaml", "small")
    with pytest.raises(BadInput, match=words):
        run_ablation(
            Workspace.open(Settings(home=tmp_path / "home")), params, load_plan(tmp_path / "plan.yaml"), full=False
        )
    assert not list((tmp_path / "home").rglob("ledger"))
