"""A dataset's camera: found, moved, on the hand, or refused in words."""

from __future__ import annotations

import numpy as np
from dataset.calibration.test_fit import HEIGHT, WIDTH, Seen, seen_by

from posa_vla.dataset.calibration.automatic import Stretch, find_camera
from posa_vla.dataset.calibration.events import PLACES, Change


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
    assert "record 3 more demonstrations" in stretch.reasons[0]


def test_a_mirrored_picture_and_strange_changes_are_named() -> None:
    seen = seen_by(15, strangers=0.0)
    mirrored = Seen(seen.poses, np.array([WIDTH, 0]) + np.array([-1, 1]) * seen.pixels, seen.reach, seen.truth)
    (stretch,) = find(changes_of(mirrored), seen)
    assert any("mirror" in reason for reason in stretch.reasons)
    strange = seen_by(14, strangers=0.8)
    (stretch,) = find(changes_of(strange), strange)
    assert not stretch.usable
