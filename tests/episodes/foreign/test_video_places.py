"""Of many files with many faults: an episode has its own pictures, or it is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from posa_vla.episodes.foreign.video_places import Claim, Placed, place
from posa_vla.episodes.media.video_file import VideoIndex

CLOCKS = {
    "exact": lambda firsts, fps, rng: firsts / fps,
    "rounded to 10 ms": lambda firsts, fps, rng: np.round(firsts / fps, 2),
    "a millisecond more an episode": lambda firsts, fps, rng: firsts / fps + 1e-3 * np.arange(len(firsts)),
    "another rate": lambda firsts, fps, rng: firsts / fps * (1 + rng.uniform(-2e-3, 2e-3)),
    "a fifth of a frame late": lambda firsts, fps, rng: (firsts + 0.2) / fps,
    "nominal": lambda firsts, fps, rng: firsts / fps * 1000 / 1001,
}


def index(pictures: int, fps: float, late: float = 0.0) -> VideoIndex:
    return VideoIndex((4, 4), np.round((late + np.arange(pictures) / fps) * 90_000) / 90_000, np.zeros(0), 1 / 90_000)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("missing", ["none", "first", "middle", "last", "some"])
def test_no_episode_gets_its_neighbours_pictures(clock, missing):
    placed = refused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        fps = float(rng.choice([10, 25, 30, 50]))
        lengths = rng.integers(8, 90, rng.integers(2, 50))
        firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        starts = CLOCKS[clock](np.append(firsts, lengths.sum()), fps, rng)
        third = len(lengths) // 3
        listed = {
            "none": np.arange(len(lengths)),
            "first": np.arange(third, len(lengths)),
            "middle": np.r_[: third + 1, 2 * third + 1 : len(lengths)],
            "last": np.arange(2 * third + 1),
            "some": np.flatnonzero(rng.random(len(lengths)) > 0.2),
        }[missing]
        claims = [Claim(int(k), float(starts[k]), float(starts[k + 1]), int(lengths[k])) for k in listed]
        if not claims:
            continue
        nominal = fps * 1001 / 1000 if clock == "nominal" else fps
        found = place(claims, index(int(lengths.sum()), fps), nominal, "file-000.mp4")
        assert sorted(found) == sorted(listed.tolist())
        for number, where in found.items():
            if isinstance(where, Placed):
                assert (where.first, where.frames) == (firsts[number], lengths[number])
            placed, refused = placed + isinstance(where, Placed), refused + isinstance(where, str)
    if clock in {"exact", "nominal"} or missing == "none":
        assert refused == 0
    assert placed > 20


def reason(*claims: Claim, pictures: int = 40, late: float = 0.0) -> dict[int, str]:
    found = place(claims, index(pictures, 10, late), 10, "file-000.mp4")
    return {number: where for number, where in found.items() if isinstance(where, str)}


def test_an_episode_that_lost_a_picture_to_its_neighbour_is_not_placed_by_counting():
    # The times say 19 and 21 pictures, the tables 20 and 20: together they fill the file.
    found = reason(Claim(0, 0.0, 1.9, 20), Claim(1, 1.91, 4.0, 20))
    assert sorted(found) == [0, 1]
    assert "have pictures in common" in found[0]


@pytest.mark.parametrize("times", [19, 21])
def test_nor_are_those_that_follow_it(times):
    # Either the first one's time is wrong, and all starts after it, or its table: they begin one picture apart.
    starts = [0.0, times / 10, times / 10 + 2, times / 10 + 4]
    claims = [Claim(number, start, None, 20) for number, start in enumerate(starts)]
    assert {1, 2, 3} <= reason(*claims, pictures=80).keys()


def test_late_pictures_and_starts_that_fit_both_clocks_are_refused():
    claims = [Claim(1, 1.0, 2.0, 10), Claim(2, 2.0, 3.0, 10)]
    assert not reason(*claims)
    found = reason(*claims, late=0.5)
    assert sorted(found) == [1, 2]
    assert "can be a time or a number of pictures" in found[1]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Claim(0, 0.0, None, 41), "has 40 frames, the episode's table 41"),
        (Claim(0, 0.0, 3.0, 20), "has 30 frames between 0.00 and 3.00 s, the episode's table 20"),
        (Claim(0, 3.0, 5.0, 20), "has 10 frames from 3.00 s on, the episode's table 20"),
        (Claim(0, 0.0, 1.9, 20), ""),
    ],
)
def test_another_number_of_pictures_than_rows_is_refused(claim, message):
    assert reason(claim).get(0, "") == (message and f"file-000.mp4 {message}")


def test_a_file_without_pictures_is_nobodys():
    assert reason(Claim(3, 0.0, 1.0, 10), pictures=0) == {3: "file-000.mp4 has no frames"}
