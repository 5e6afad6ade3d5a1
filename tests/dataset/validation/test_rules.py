"""Each rule finds its fault, says where, and leaves the good episode beside it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_embodiment, make_episode

from posa_vla.dataset.split import split_of
from posa_vla.dataset.validation.findings import FIXED, REMEDIES
from posa_vla.dataset.validation.store_rules import Trace, store_remarks
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.files import sha256_json, write_json
from posa_vla.seeds import EVALUATION_SEEDS, TUNING_SEEDS
from posa_vla.validation_params import RuleParams, ValidateParams

EMBODIMENT = make_embodiment()


def good(seed: int = 1, frames: int = 40) -> Episode:
    return make_episode(np.random.default_rng(seed), frames=frames)


def with_images(episode: Episode, change: Callable[[np.ndarray], np.ndarray]) -> Episode:
    head = episode.cameras["head"]
    return replace(episode, cameras={**episode.cameras, "head": replace(head, images=change(np.array(head.images)))})


def held_still(images: np.ndarray) -> np.ndarray:
    images[10:30] = images[10]
    return images


def camera_moved(episode: Episode) -> Episode:
    head = episode.cameras["head"]
    assert head.pose is not None
    pose = head.pose.copy()
    pose[:, 0] += 0.1
    return replace(episode, cameras={**episode.cameras, "head": replace(head, pose=pose)})


def jumped(episode: Episode) -> Episode:
    state = np.cumsum(np.full_like(episode.state, 0.001), axis=0)
    state[20:, 1] += 0.3
    return replace(episode, state=state)


def reversed_action(episode: Episode) -> Episode:
    return replace(episode, action=episode.action * np.array([-1, 1], np.float32))


def timed(episode: Episode, change: Callable[[np.ndarray], np.ndarray]) -> Episode:
    times = change(np.arange(len(episode)) / episode.fps).astype(np.float32)
    return replace(episode, timestamps=times.astype(np.float64))


def in_scene(seed: int) -> Episode:
    return replace(good(), scene={"task": "pick", "seed": seed})


def nearly_the_same(_: Episode) -> Episode:
    first = good(0)
    return replace(first, state=first.state + np.float32(1e-6), scene={"task": "pick", "seed": 12345})


FAULTS: dict[str, tuple[Callable[[], Episode], str]] = {
    "black": (lambda: with_images(good(), lambda i: i // 64), "head: 100 % of the frames are black"),
    "overexposed": (lambda: with_images(good(), lambda i: np.full_like(i, 254)), "mostly white"),
    "frozen-frames": (lambda: with_images(good(), held_still), "head: the picture stands still for 1.9 s"),
    "repeated-frames": (lambda: with_images(good(), lambda i: i[np.arange(40) // 2 * 2]), "frames repeat"),
    "calibration-drift": (lambda: camera_moved(good()), "head: the picture moves"),
    "jumps": (lambda: jumped(good()), "state y moves by 0.30"),
    "action-state": (lambda: reversed_action(good()), "action delta_x and what follows it correlate by -1.00"),
    "dropped-frames": (lambda: timed(good(), lambda t: t + 0.3 * (t > 2)), "about 3 are missing"),
    "fps-jitter": (
        lambda: timed(good(), lambda t: t + 0.04 * np.sin(np.arange(40) * 2.4)),
        "the time between frames varies",
    ),
    "timestamps": (lambda: timed(good(), lambda t: np.minimum(t, 1.0)), "the one before at"),
    "scene-leakage": (lambda: in_scene(EVALUATION_SEEDS[5]), "candidates are evaluated on"),
    "near-duplicate": (lambda: nearly_the_same(good()), "differs from episode 0"),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_finds_its_fault_and_blames_nobody_else(tmp_path: Path, rule: str):
    make, words = FAULTS[rule]
    store = EpisodeStore(tmp_path / "store")
    store.append([good(0), make()], EMBODIMENT)
    findings = validate(store.root).findings
    mine = [finding for finding in findings if finding.rule == rule]
    assert [finding.episode for finding in mine] == [1]
    assert words in mine[0].value
    # A picture that is all black or white also stands still; nothing else may follow from one fault.
    others = {f.rule for f in findings} - {rule}
    assert others <= {"frozen-frames", "calibration-drift", "jumps"}, findings
    assert all(finding.episode == 1 for finding in findings)


def test_a_scene_that_policies_are_tuned_on_is_no_demonstration_s(tmp_path: Path):
    store = EpisodeStore(tmp_path / "store")
    store.append([good(0), in_scene(TUNING_SEEDS[5])], EMBODIMENT)
    (found,) = [finding for finding in validate(store.root).findings if finding.rule == "scene-leakage"]
    assert (found.episode, "candidates are tuned on" in found.value) == (1, True)


def test_every_rule_has_a_remedy_and_every_remedy_a_rule():
    assert set(REMEDIES) == {name.replace("_", "-") for name in ValidateParams.model_fields}
    assert not set(FIXED) & set(REMEDIES)


def test_severities_and_thresholds_are_parameters(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    store.append([good(0), with_images(good(1), held_still)], EMBODIMENT)
    strict = ValidateParams(frozen_frames=RuleParams(severity="severe", threshold=0.5))
    off = ValidateParams(frozen_frames=RuleParams(severity="off"))
    assert [row.episode for row in validate(store.root, strict).quarantined] == [1]
    assert "frozen-frames" not in validate(store.root, off).rules


def test_nearly_the_same_episode_on_both_sides_is_kept_out_of_training_alone(tmp_path):
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, frames=40) for _ in range(12)]
    held = next(e for e in episodes if split_of(e, 0.3) == "validation")
    seeds = ({"task": "pick", "seed": seed} for seed in range(1000))
    other = next(c for c in (replace(held, scene=scene) for scene in seeds) if split_of(c, 0.3) == "train")
    store = EpisodeStore(tmp_path / "store")
    store.append([held, other], EMBODIMENT)
    report = validate(store.root, validation_fraction=0.3)
    assert set(report.rules) == {"near-duplicate", "scene-leakage"}
    assert [row.episode for row in report.quarantined] == [1]


def traces(points: np.ndarray, *, frames: int = 40, position: float = 0.9) -> list[Trace]:
    return [
        Trace("b" * 64, number, f"{number:064x}", "arm", "group", "", position, row.tolist(), frames)
        for number, row in enumerate(points)
    ]


def test_each_of_many_alike_is_reported_once_against_one_before_it():
    rng = np.random.default_rng(0)
    alike = np.tile(rng.normal(size=8 * 4), (3000, 1)) + rng.normal(scale=1e-4, size=(3000, 8 * 4))
    points = np.concatenate([alike, np.tile(alike[7], (500, 1)), rng.normal(scale=50, size=(1, 8 * 4))])
    found = list(store_remarks(traces(points), ValidateParams(), 0.0))
    assert [trace.number for trace, _, _ in found] == list(range(1, 3500))
    others = [int(value.split("episode ")[1].split()[0]) for _, _, value in found]
    assert all(other < trace.number for (trace, _, _), other in zip(found, others, strict=True))
    assert {others[number - 1] for number in range(3000, 3500)} == {7}


def test_of_many_alike_all_that_are_trained_on_are_kept_apart_from_the_one_held_out():
    rng = np.random.default_rng(0)
    points = np.tile(rng.normal(size=16), (200, 1)) + rng.normal(scale=1e-5, size=(200, 16))
    points[0] += 9.0  # an outlier, so that the others are alike
    all_of_them = traces(points)
    all_of_them[150] = replace(all_of_them[150], position=0.01)
    all_of_them[60] = replace(all_of_them[60], frames=80)
    found = [t.number for t, rule, _ in store_remarks(all_of_them, ValidateParams(), 0.05) if rule == "scene-leakage"]
    assert found == [n for n in range(1, 200) if n not in {60, 150}]


def test_of_few_episodes_the_rule_looks_at_the_split_that_is_made_of_them():
    points = np.random.default_rng(0).normal(scale=9, size=(10, 16))
    points[7] = points[3]
    # By the hash none of ten is held out at 0.1; counted, the one with the least position is.
    few = [replace(trace, position=0.2 if trace.number == 3 else 0.9) for trace in traces(points)]
    few = [replace(trace, position=trace.position + trace.number / 1000) for trace in few]
    found = [(t.number, rule) for t, rule, _ in store_remarks(few, ValidateParams(), 0.1)]
    assert (7, "scene-leakage") in found
    many = [*few, *(replace(t, number=t.number + 100, group="other", position=0.99) for t in few * 3)]
    assert all(rule != "scene-leakage" for _, rule, _ in store_remarks(many, ValidateParams(), 0.1))


def test_a_released_episode_counts_again_and_its_reason_stays(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    store.append([good(0), with_images(good(1), lambda i: i // 64)], EMBODIMENT)
    before = validate(store.root)
    (finding,) = [f for f in before.findings if f.severity == "severe"]
    with pytest.raises(BadInput, match="needs a reason"):
        store.quarantine.release(finding.digest, ["black"], " ")
    store.quarantine.release(finding.digest, ["black"], "the lamp was off, the arm is seen by the wrist camera")
    after = validate(store.root)
    assert (len(before.quarantined), after.quarantined) == (1, [])
    assert after.store_digest != before.store_digest
    (released,) = [f for f in after.findings if f.rule == "black"]
    assert "the lamp was off" in released.released


def test_a_second_release_keeps_what_the_first_waived_and_both_reasons(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    dark = replace(with_images(good(1), lambda i: i // 64), instruction="")
    store.append([good(0), dark], EMBODIMENT)
    ((_, reader),) = store.readers()
    digest = reader.records[1].extra.digest
    store.quarantine.release(digest, ["instruction"], "it waves")
    assert len(validate(store.root).quarantined) == 1
    store.quarantine.release(digest, ["black"], "the lamp was off")
    after = validate(store.root)
    assert after.quarantined == []
    assert {f.rule: f.released for f in after.findings if f.severity == "severe"} == {
        "instruction": "it waves",
        "black": "the lamp was off",
    }


def test_a_release_of_the_previous_schema_still_counts_and_changes_no_digest(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    store.append([good(0), with_images(good(1), lambda i: i // 64)], EMBODIMENT)
    ((_, reader),) = store.readers()
    digest = reader.records[1].extra.digest
    first = {"episode": digest, "rules": ["black"], "reason": "lamp", "schema_version": 1, "who": "me", "when": 12.5}
    write_json(store.root / f"releases/{digest}.json", first)
    assert validate(store.root).quarantined == []
    assert store.quarantine.digest() == {"releases": [sha256_json(first)]}
    store.quarantine.release(digest, ["jumps"], "bumped")
    assert store.quarantine.releases()[digest].rules == ["black", "jumps"]


def test_what_was_found_of_a_batch_is_kept_until_rules_or_robot_change(tmp_path):
    store, cache = EpisodeStore(tmp_path / "store"), tmp_path / "validated"
    store.append([good(0), with_images(good(1), held_still)], EMBODIMENT)
    first = validate(store.root, cache=cache)
    assert validate(store.root, cache=cache) == first == validate(store.root)
    narrow = EMBODIMENT.model_dump()
    narrow["state"][0] |= {"low": -0.001, "high": 0.001}
    changed = type(EMBODIMENT).model_validate(narrow)
    assert "limits-nonsense" in validate(store.root, declared={changed.id: changed}, cache=cache).rules
    assert validate(store.root, cache=cache) == first
