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
    OWN_EXECUTION,
    TUNING,
    AblationPlan,
    Cell,
    TunedExecution,
    cell_params,
    condition_params,
    execution_under,
    load_plan,
    plan_scenes,
    turns,
)
from posa_vla.evaluation.ablation.report import Results, write_report
from posa_vla.evaluation.ablation.rows import Columns, Origin, TrainingRows
from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.evidence.suite import Suite
from posa_vla.params_file import load_params
from posa_vla.pipeline.ablation import run_ablation
from posa_vla.schema import parse
from posa_vla.seeds import COLLECTION_SEEDS, EVALUATION_SEEDS, TUNING_SEEDS, scene_seeds
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[3]
LIMIT = 60


def rows(plan_scenes: list[int], solved: int, steps: int) -> list[EpisodeRow]:
    return [
        EpisodeRow(scene_seed=seed, success=i < solved, steps=steps if i < solved else 60, path_length=0.5, jerk=0.001)
        for i, seed in enumerate(plan_scenes)
    ]


def training(cell: Cell, conditions: dict[str, list[EpisodeRow]]) -> TrainingRows:
    def columns(lines: list[EpisodeRow]) -> Columns:
        made = Evidence(policy_digest="b" * 64, suite={}, planned=len(lines), rows=lines, hardware="here", versions={})
        return Columns.of(made, [line.scene_seed for line in lines])

    return TrainingRows(
        variant=cell.variant,
        demonstrations=cell.demonstrations,
        seed=cell.seed,
        origin=Origin(plan="a" * 64, params="b" * 64, code={}),
        commit="c" * 40,
        seconds=300.0,
        machine="here",
        versions={},
        conditions={name: columns(lines) for name, lines in conditions.items()},
    )


def tuned(**changes: object) -> AblationPlan:
    plan = load_plan().model_dump()
    return parse(AblationPlan, {**plan, "tuning": {**plan["tuning"], **changes}}, "plan")


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
        assert condition_params(plan, params, condition).evaluate.episodes == plan.scenes == 300


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
    assert not set(basic) & set(scene_seeds("d" * 64, 100))
    assert all(seed in EVALUATION_SEEDS and seed not in COLLECTION_SEEDS for seed in basic)


def test_nothing_that_chooses_decides() -> None:
    plan = load_plan()
    assert all(seed in TUNING_SEEDS for seed in plan_scenes(plan, TUNING, 500))
    with pytest.raises(BadInput, match=r"tuning\.seed 1 is one of training_seeds"):
        tuned(seed=1)


@pytest.mark.parametrize("name", [TUNING, OWN_EXECUTION])
def test_no_condition_takes_the_tuning_s_names(name: str) -> None:
    plan = load_plan()
    with pytest.raises(BadInput, match=f"'{name}' is no name of a condition"):
        parse(AblationPlan, {**plan.model_dump(), "conditions": {**plan.conditions, name: {}}}, "plan")


def test_a_plan_of_version_1_keeps_its_digest_and_knows_no_execution() -> None:
    golden = json.loads((ROOT / "tests" / "golden" / "ablation-plan-1.json").read_text())
    plan = parse(AblationPlan, golden, "plan")
    published = json.loads((ROOT / "docs" / "results" / "anchors-1" / "results.json").read_text())
    assert plan.digest == published["plan_digest"]
    with pytest.raises(BadInput, match="need schema_version 2"):
        parse(AblationPlan, {**golden, "tuning": {**golden["tuning"], "flow_steps": [2]}}, "plan")


def test_all_are_executed_alike_and_each_as_suits_it_best_besides() -> None:
    alike, own = TunedExecution(start_noise=0, flow_steps=2), TunedExecution(start_noise=1, flow_steps=6)
    plan, params = (
        tuned(execution=alike, own_executions={"no-anchors": own}),
        load_params(ROOT / "params.yaml", "small"),
    )
    for turn in turns(plan, params, full=True):
        for condition in turn.conditions:
            way = execution_under(plan, condition, turn.cell.variant)
            evaluate = condition_params(plan, params, condition, way).evaluate
            expected = own if condition == OWN_EXECUTION else alike
            assert (evaluate.start_noise, evaluate.flow_steps) == (expected.start_noise, expected.flow_steps)
    quick = turns(plan, params, full=False)
    assert {turn.cell.variant for turn in quick if OWN_EXECUTION in turn.conditions} == {"no-anchors"}


def test_the_order_is_first_condition_then_conditions_then_demonstrations() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    quick, full = turns(plan, params, full=False), turns(plan, params, full=True)
    assert [(t.cell.variant, t.cell.seed, t.conditions) for t in quick[:2]] == [
        ("full", 0, ("basic",)),
        ("no-anchors", 0, ("basic", OWN_EXECUTION)),
    ]
    assert len(quick) == 6
    assert full[:6] == quick
    trainings = 3 * len(plan.variants)
    first, then, fewer = full[:trainings], full[trainings : 2 * trainings], full[2 * trainings :]
    own = {turn.cell.variant for turn in first if turn.conditions == ("basic", OWN_EXECUTION)}
    assert own == set(plan.tuning.own_executions)
    assert {turn.conditions for turn in first if turn.cell.variant not in own} == {("basic",)}
    assert list(dict.fromkeys(turn.cell.variant for turn in first)) == list(plan.variants)
    assert [turn.cell for turn in then] == [turn.cell for turn in first]
    assert {turn.conditions for turn in then} == {tuple(plan.conditions)[1:]}
    assert list(dict.fromkeys(turn.cell.demonstrations for turn in fewer)) == [50, 100, 200, 400]
    assert {turn.conditions for turn in fewer} == {("basic",)}


def test_conditions_are_part_of_what_an_evaluation_says_of_itself() -> None:
    plan, params = load_plan(), load_params(ROOT / "params.yaml", "small")
    described = {json.dumps(Suite.of(condition_params(plan, params, name), [1]).describe()) for name in plan.conditions}
    assert len(described) == len(plan.conditions)


def test_figures_by_hand() -> None:
    scenes = [1, 2, 3, 4]
    full = {0: rows(scenes, 3, 20), 1: rows(scenes, 2, 20)}
    other = {0: rows(scenes, 1, 40), 1: rows(scenes, 1, 40)}
    figures = group_figures(full, {1: (20, 0.25), 2: (20, 0.25)}, LIMIT)
    assert figures["success"]["value"] == pytest.approx(5 / 8)
    assert figures["steps"]["value"] == 20
    assert figures["steps_all"]["value"] == pytest.approx((5 * 20 + 3 * 60) / 8)
    assert figures["path_over_expert"]["value"] == pytest.approx(2.0)
    assert figures["by_seed"] == {"0": 0.75, "1": 0.5}
    against = compare_groups(full, other, LIMIT)
    assert against["success_difference"]["value"] == pytest.approx(5 / 8 - 2 / 8)
    assert against["steps_ratio"]["value"] == pytest.approx(0.5)
    assert against["steps_all_ratio"]["value"] == pytest.approx((5 * 20 + 3 * 60) / (2 * 40 + 6 * 60))
    assert against["both_solved"] == 2


def test_failing_where_the_way_is_long_helps_steps_on_solved_scenes_and_not_over_all() -> None:
    scenes = list(range(40))
    slow = [EpisodeRow(scene_seed=s, success=True, steps=20 if s < 20 else 50, path_length=1) for s in scenes]
    gives_up = [row if row.steps < 50 else row.model_copy(update={"success": False, "steps": 3}) for row in slow]
    honest, quitter = group_figures({0: slow}, {}, LIMIT), group_figures({0: gives_up}, {}, LIMIT)
    assert quitter["steps"]["value"] < honest["steps"]["value"]
    assert quitter["steps_all"]["value"] > honest["steps_all"]["value"], (
        "an episode that broke off early is no quick one"
    )
    against = compare_groups({0: slow}, {0: gives_up}, LIMIT)
    assert against["steps_ratio"]["value"] == 1
    assert against["steps_all_ratio"]["value"] == pytest.approx(35 / 40)
    assert against["steps_all_ratio"]["high"] < 1


def test_all_or_nothing_still_has_an_interval() -> None:
    scenes = list(range(100))
    none = group_figures({0: rows(scenes, 0, 20), 1: rows(scenes, 0, 20)}, {}, LIMIT)["success"]
    assert none["low"] == 0
    assert 0.02 < none["high"] < 0.05, "Clopper and Pearson of 0 in 100"
    assert group_figures({0: rows(scenes, 0, 20)}, {}, LIMIT)["steps"]["value"] is None


def test_the_report_says_what_was_not_run(tmp_path: Path) -> None:
    own = TunedExecution(start_noise=1, flow_steps=6)
    plan = tuned(execution=TunedExecution(start_noise=0, flow_steps=1), own_executions={"no-anchors": own})
    params = load_params(ROOT / "params.yaml", "small")
    results = Results(plan, params)
    scenes = plan_scenes(plan, "basic", plan.scenes)
    results.expert["basic"] = dict.fromkeys(scenes, (20, 0.4))
    for turn in turns(plan, params, full=False):
        solved = 240 if turn.cell.variant == "full" else 0
        results.trainings[turn.cell] = training(turn.cell, dict.fromkeys(turn.conditions, rows(scenes, solved, 24)))
        assert results.missing(turn) == []
    done = write_report(results, tmp_path)
    text = Path(done.table).read_text()
    assert "| full | 600 | basic | 3 | 80 (" in text
    assert "| no-anchors | 600 | basic | 3 | 0 (" in text
    assert "| no-anchors | 600 | own-execution | 3 | 0 (" in text
    assert "| 60 (60 to 60) | none | none | none |" in text, "no figure of what nothing solved but the limit"
    assert "| no-anchors | 600 | basic | +80 (" in text
    assert "| -48 (" in text, "(240 * 24 + 60 * 60) / (300 * 60) is 0.52"
    assert "Every policy is run with start noise 0 and 1 flow step." in text
    assert "`own-execution` runs `no-anchors` with start noise 1 and 6 flow steps" in text
    assert f"Not run, of the full plan: {len(done.not_run)}" in text
    assert any("no-contrastive" in line for line in done.not_run)
    assert not any(line == "full, 600 demonstrations, seed 0, basic" for line in done.not_run)
    assert done.figures["full/600/basic/steps_all"] == pytest.approx(31.2)
    assert done.figures["no-anchors/600/basic/steps_all_ratio"] == pytest.approx(0.52)
    assert Image.open(done.plot).width > 600
    saved = json.loads(Path(done.results).read_text())
    assert saved["schema_version"] == 2
    assert (len(saved["rows"]), saved["training_seconds"], saved["machines"]) == (6, 1800, ["here"])
    assert saved["plan_digest"] == plan.digest
    assert len(Path(done.results).read_text().splitlines()) < 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": "ful"}, "'ful' is no variant"),
        ({"scene": 10}, "did you mean"),
        ({"quick": ["full"]}, "at least 2"),
        ({"name": "../elsewhere"}, "name"),
        ({"training_seeds": [0, 0]}, "one seed twice"),
        ({"schema_version": 3}, "later posa-vla"),
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
