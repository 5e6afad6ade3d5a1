"""Seeds for training, tuning, evaluation and robots never meet, and have one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from posa_vla.seeds import COLLECTION_SEEDS, EVALUATION_SEEDS, ROBOT_SEEDS, TUNING_SEEDS, look_seed, scene_seeds

ROOT = Path(__file__).parents[1]
RANGES = (COLLECTION_SEEDS, EVALUATION_SEEDS, TUNING_SEEDS, ROBOT_SEEDS)
DIGESTS = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)


def test_ranges_never_meet_and_leave_no_gap() -> None:
    for first, second in combinations(RANGES, 2):
        assert first.stop <= second.start
    assert [purpose.start for purpose in RANGES] == [0, *(purpose.stop for purpose in RANGES[:-1])]


@given(st.integers(0, ROBOT_SEEDS.stop - 1))
def test_every_scene_serves_one_purpose(seed: int) -> None:
    assert sum(seed in purpose for purpose in RANGES) == 1


@given(DIGESTS, st.integers(1, 60))
def test_scenes_follow_from_the_digest_and_are_no_training_scenes(digest: str, count: int) -> None:
    seeds = scene_seeds(digest, count)
    assert seeds == scene_seeds(digest, count)
    assert len(set(seeds)) == count
    assert all(seed in EVALUATION_SEEDS and seed not in COLLECTION_SEEDS for seed in seeds)
    assert scene_seeds(digest, count + 5)[:count] == seeds


@given(DIGESTS, st.integers(1, 60))
def test_scenes_that_choose_are_none_that_decide(digest: str, count: int) -> None:
    seeds = scene_seeds(digest, count, TUNING_SEEDS)
    assert len(set(seeds)) == count
    assert all(seed in TUNING_SEEDS for seed in seeds)


def test_other_digests_give_other_scenes() -> None:
    assert not set(scene_seeds("a" * 64, 50)) & set(scene_seeds("b" * 64, 50))


def test_the_scenes_of_a_digest_stay_what_they_were() -> None:
    """Evidence and published results name them."""
    assert scene_seeds("a" * 64, 3) == [3776068261, 2681574249, 3729857979]
    assert (look_seed(2**32, 7), look_seed(2**62 + 5, 7)) == (4294967296007, 5007)


@given(st.integers(0, 2**40), st.integers(0, 999), st.integers(0, 999))
def test_two_looks_of_an_episode_have_two_seeds(seed: int, first: int, second: int) -> None:
    assert (look_seed(seed, first) == look_seed(seed, second)) == (first == second)
    assert 0 <= look_seed(seed, first) < 2**63


def _written_out(path: Path) -> Iterator[str]:
    """Borders between seeds, and seeds of looks, that a file computes by itself."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.BinOp) and ast.unparse(node) in {"2 ** 31", "2 ** 32", "2 ** 33", "seed * 1000"}:
            yield f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)}"


def test_borders_and_look_seeds_are_computed_in_one_file() -> None:
    files = [path for folder in ("posa_vla", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [line for path in files if path != ROOT / "posa_vla/seeds.py" for line in _written_out(path)]
    assert found == []
