"""Seeds: the scenes that each purpose draws from, which never meet, and a policy's randomness at each look."""

from __future__ import annotations

import hashlib

# Scenes of demonstrations.
COLLECTION_SEEDS = range(2**31)
# Scenes that policies are judged on: no demonstration may come from them.
EVALUATION_SEEDS = range(COLLECTION_SEEDS.stop, 2**32)
# Scenes that choose and never decide: learning rates, execution, when to stop. No demonstration may come from them.
TUNING_SEEDS = range(EVALUATION_SEEDS.stop, 2**33)
# Scenes of episodes on a simulated robot.
ROBOT_SEEDS = range(TUNING_SEEDS.stop, 2**63)
# Looks of an episode before its neighbour's seeds begin.
_LOOKS = 1000


def scene_seeds(digest: str, count: int, among: range = EVALUATION_SEEDS) -> list[int]:
    """Scene seeds of a candidate's evaluation: nobody can have trained or tuned on scenes that its own digest picks.

    Seed i is drawn from SHA-256 of `digest:i`, in `among`; collection stays in `COLLECTION_SEEDS`.

    Args:
        digest: Bundle digest of the candidate, or another text that fixes the scenes.
        count: Number of distinct seeds.
        among: `EVALUATION_SEEDS`, or `TUNING_SEEDS` for scenes that choose.
    """
    seeds: dict[int, None] = {}
    draw = 0
    while len(seeds) < count:
        number = int.from_bytes(hashlib.sha256(f"{digest}:{draw}".encode()).digest()[:8], "big")
        seeds[among[number % len(among)]] = None
        draw += 1
    return list(seeds)


def look_seed(seed: int, look: int) -> int:
    """Seed of a policy's randomness at one look of an episode, in [0, 2^63).

    Args:
        seed: Seed of the episode's scene.
        look: Number of the look, or another number that no two looks of the episode share.
    """
    return (seed * _LOOKS + look) % 2**63
