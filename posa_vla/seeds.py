"""Seeds: the scenes that each purpose draws from, which never meet, and a policy's randomness at each look."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

# Scenes of demonstrations.
COLLECTION_SEEDS = range(2**31)
# Scenes that policies are judged and tuned on: no demonstration may come from them.
EVALUATION_SEEDS = range(COLLECTION_SEEDS.stop, 2**32)
# Scenes of episodes on a simulated robot.
ROBOT_SEEDS = range(EVALUATION_SEEDS.stop, 2**63)
# Looks of an episode before its neighbour's seeds begin.
_LOOKS = 1000


def scene_seeds(digest: str, count: int, apart_from: Collection[int] = ()) -> list[int]:
    """Scene seeds of a candidate's evaluation: nobody can have trained or tuned on scenes that its own digest picks.

    Seed i is drawn from SHA-256 of `digest:i`, in `EVALUATION_SEEDS`; collection stays in `COLLECTION_SEEDS`.

    Args:
        digest: Bundle digest of the candidate, or another text that fixes the scenes.
        count: Number of distinct seeds.
        apart_from: Seeds that are passed over.
    """
    seeds: dict[int, None] = {}
    draw = 0
    while len(seeds) < count:
        number = int.from_bytes(hashlib.sha256(f"{digest}:{draw}".encode()).digest()[:8], "big")
        seed = EVALUATION_SEEDS[number % len(EVALUATION_SEEDS)]
        if seed not in apart_from:
            seeds[seed] = None
        draw += 1
    return list(seeds)


def look_seed(seed: int, look: int) -> int:
    """Seed of a policy's randomness at one look of an episode, in [0, 2^63).

    Args:
        seed: Seed of the episode's scene.
        look: Number of the look, or another number that no two looks of the episode share.
    """
    return (seed * _LOOKS + look) % 2**63
