"""A dataset's camera: found, moved, on the hand, or refused in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dataset.calibration.test_fit import HEIGHT, WIDTH, Seen, seen_by

from posa_vla.dataset.calibration.automatic import Stretch, exchanged, find_camera
from posa_vla.dataset.calibration.events import PLACES, Change, Lost


def changes_of(seen: Seen, first: int = 0) -> list[tuple[int, Change]]:
    """Two events an episode."""
    places = np.full((len(seen.pixels), PLACES, 2), np.nan)
    places[:, 0] = seen.pixels
    return [(first + i // 2, Change(7, seen.poses[i], places[i])) for i in range(len(places))]


def find(changes: list[tuple[int, Change]], seen: Seen) -> list[Stretch]:
    return find_camera(changes, seen.reach, width=WIDTH, height=HEIGHT)


def test_a_camera_that_stands_is_one_stretch() -> None:
    seen = seen_by(20)
    (stretch,) = find(changes_of(seen), seen)
    assert stretch.usable, stretch.reasons
    assert (stretch.first, stretch.last, stretch.events) == (0, 24, 50)
    assert stretch.camera is not None
    assert np.median(seen.errors(stretch.camera)) < 0.01


def test_a_camera_that_was_moved_on_day_two_is_two_stretches_that_begin_at_that_day() -> None:
    one, other = seen_by(21, strangers=0.1), seen_by(22, strangers=0.1)
    first, second = find([*changes_of(one), *changes_of(other, first=25)], one)
    assert first.usable, first.reasons
    assert second.usable, second.reasons
    assert (first.first, first.last, second.first, second.last) == (0, 24, 25, 49)
    assert first.camera is not None
    assert second.camera is not None
    assert np.median(one.errors(first.camera)) < 0.015
    assert np.median(other.errors(second.camera)) < 0.015


@pytest.mark.parametrize("day", [3, 45])
def test_a_camera_that_was_moved_in_the_first_or_last_days_does_not_lend_its_place_to_them(day: int) -> None:
    one, other = seen_by(21, 100, strangers=0.1), seen_by(22, 100, strangers=0.1)
    stretches = find([*changes_of(one)[: 2 * day], *changes_of(other)[2 * day :]], one)
    assert [(s.first, s.last) for s in stretches] == [(0, day - 1), (day, 49)]
    long, seen = (stretches[0], one) if day > 25 else (stretches[1], other)
    assert long.usable, long.reasons
    assert long.camera is not None
    assert np.median(seen.errors(long.camera)) < 0.01
    short = stretches[1] if day > 25 else stretches[0]
    if short.events < 8:
        assert not short.usable
        assert "record" in short.reasons[0]


def test_a_camera_that_was_moved_and_put_back_is_one_camera_but_for_the_time_between() -> None:
    one, other = seen_by(21, 100, strangers=0.1), seen_by(22, 100, strangers=0.1)
    moved = changes_of(one)
    moved[40:52] = changes_of(other)[40:52]
    before, between, after = find(moved, one)
    # A last event that fits both is not told from the first one after it.
    assert (before.last, between.first) == (19, 20)
    assert after.first - 1 == between.last
    assert between.last in (24, 25)
    assert before.camera is after.camera
    assert before.usable, before.reasons
    assert before.camera is not None
    assert np.median(one.errors(before.camera)) < 0.01


@pytest.mark.parametrize(("seed", "strangers"), [(40, 0.1), (41, 0.4)])
def test_a_camera_that_stands_is_not_cut_by_strangers(seed: int, strangers: float) -> None:
    seen = seen_by(seed, 100, strangers=strangers)
    assert len(find(changes_of(seen), seen)) == 1


def test_two_cameras_that_were_exchanged_are_named() -> None:
    seen = [seen_by(seed, strangers=0.0) for seed in (21, 22)]
    one, other = (Stretch(0, 24, 50, each.fit()) for each in seen)
    wrist, later = Stretch(0, 24, 50, on_hand=(320, 300)), {"first": 25, "last": 49}
    head, side = [one, replace(other, **later)], [other, replace(one, **later)]
    said = exchanged({"head": head, "side": side}, seen[0].reach)
    assert set(said) == {"head", "side"}
    assert "from episode 25 on it sees what side saw before" in said["head"]
    assert exchanged({"head": head, "side": head}, seen[0].reach) == {}
    mixed = {"head": [one, replace(wrist, **later)], "wrist": [wrist, replace(one, **later)]}
    assert set(exchanged(mixed, seen[0].reach)) == {"head", "wrist"}


def test_a_camera_on_the_hand_is_told_from_one_that_stands() -> None:
    seen = seen_by(23)
    steady = np.random.default_rng(0).normal([320, 300], 2, (len(seen.pixels), 2))
    (stretch,) = find(changes_of(Seen(seen.poses, steady, seen.reach, seen.truth)), seen)
    assert not stretch.usable
    assert stretch.on_hand is not None
    assert np.allclose(stretch.on_hand, [320, 300], atol=2)
    assert "on the hand" in stretch.reasons[0]


def test_too_few_events_say_how_many_are_missing() -> None:
    seen = seen_by(24)
    (stretch,) = find(changes_of(seen)[:3], seen)
    assert "3 events" in stretch.reasons[0]
    assert "record 4 more demonstrations" in stretch.reasons[0]


@pytest.mark.parametrize(
    ("lost", "words"),
    [(Lost(moving=12), "let the arm stand"), (Lost(unchanged=9), "nothing changes"), (Lost(), "see `gripper`")],
)
def test_no_event_at_all_says_what_became_of_them(lost: Lost, words: str) -> None:
    (stretch,) = find_camera([], np.zeros((0, 3)), width=WIDTH, height=HEIGHT, lost=lost)
    assert words in stretch.reasons[0]


def test_events_that_scatter_around_where_the_joints_say_are_refused() -> None:
    seen = seen_by(23, strangers=0.0)
    scatter = np.random.default_rng(1).normal(0, 9, seen.pixels.shape)
    (stretch,) = find(changes_of(replace(seen, pixels=seen.pixels + scatter)), seen)
    assert any("units and signs" in reason for reason in stretch.reasons)


def test_a_mirrored_picture_and_strange_changes_are_named() -> None:
    seen = seen_by(15, strangers=0.0)
    mirrored = Seen(seen.poses, np.array([WIDTH, 0]) + np.array([-1, 1]) * seen.pixels, seen.reach, seen.truth)
    (stretch,) = find(changes_of(mirrored), seen)
    assert any("mirror" in reason for reason in stretch.reasons)
    strange = seen_by(14, strangers=0.8)
    (stretch,) = find(changes_of(strange), strange)
    assert not stretch.usable
