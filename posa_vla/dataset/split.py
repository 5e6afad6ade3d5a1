"""Which episodes are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from posa_vla.episodes.episode import Episode
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
# Fewer episodes than this are split by counting.
FEW = 40


def scene_key(episode: Episode) -> bytes:
    """Bytes that are equal for episodes of one scene; an episode without a scene is a scene of its own."""
    # How a scene was made to look, and who moved in it, make no other scene of it.
    scene = {key: value for key, value in episode.scene.items() if key not in {"perturbed", "collected"}}
    if scene:
        return canonical_json(scene)
    return episode.state.tobytes() + episode.action.tobytes()


def split_position(episode: Episode) -> float:
    """Where an episode's scene lies in [0, 1): what is below the share that is held out is held out."""
    return int.from_bytes(hashlib.sha256(scene_key(episode)).digest()[:8]) / 2**64


def split_of(episode: Episode, validation_fraction: float, held_out: frozenset[float] | None = None) -> Split:
    """Train or validation, by a hash of the scene.

    All episodes of one scene fall on one side, and an episode keeps its side when others are added: what a policy was
    once validated on is never trained on later.

    Args:
        episode: The episode.
        validation_fraction: Share that is held out.
        held_out: Of few episodes the positions that are held out (`few_held_out`).
    """
    position = split_position(episode)
    held = position < validation_fraction if held_out is None else position in held_out
    return "validation" if held else "train"


def require_scenes(episodes: Iterable[Episode], validation_fraction: float) -> None:
    """Stops where several episodes are all of one scene, of which none can be held out and others trained on.

    Raises:
        BadInput: They are.
    """
    count, first = 0, b""
    for episode in episodes:
        key = scene_key(episode)
        if count and key != first:
            return
        count, first = count + 1, key
    if count > 1 and validation_fraction > 0:
        raise BadInput(
            f"all {count} episodes are of one scene, so that none can be held out of the training: record other "
            "scenes too, or set prepare.validation_fraction=0, after which nothing is known of other scenes"
        )


def few_held_out(episodes: Iterable[Episode], validation_fraction: float) -> frozenset[float] | None:
    """Positions of the scenes that are held out of few episodes; None where a hash alone decides.

    A hash holds out its share of many. Of a few it may hold out none, or all that show a task. So of fewer than `FEW`
    the share is counted, at least one scene of two, and shared among the instructions by largest remainders. Within an
    instruction the hash decides. What is held out may change until there are `FEW`.

    Args:
        episodes: All that are to be split; their pictures are not looked at.
        validation_fraction: Share that is held out.
    """
    places = ((episode.instruction, split_position(episode)) for episode in episodes)
    return few_positions(places, validation_fraction)


def few_positions(places: Iterable[tuple[str, float]], validation_fraction: float) -> frozenset[float] | None:
    """As `few_held_out`, of (instruction, position) of each episode."""
    positions: dict[str, dict[float, None]] = {}
    seen: set[float] = set()
    for number, (instruction, position) in enumerate(places):
        if number + 1 == FEW:
            return None
        if position not in seen:
            seen.add(position)
            positions.setdefault(instruction, {})[position] = None
    wanted = round(validation_fraction * len(seen))
    if validation_fraction > 0 and len(seen) > 1:
        wanted = max(wanted, 1)
    shares = {text: wanted * len(scenes) / len(seen) for text, scenes in positions.items()}
    quotas = {text: int(share) for text, share in shares.items()}
    rest = sorted(shares, key=lambda text: (quotas[text] - shares[text], min(positions[text])))
    for text in rest[: wanted - sum(quotas.values())]:
        quotas[text] += 1
    return frozenset(p for text, scenes in positions.items() for p in sorted(scenes)[: quotas[text]])
