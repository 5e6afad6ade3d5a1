"""Where a policy looks in a recorded episode: its anchor channels, and what the action head attends to."""

from __future__ import annotations

import numpy as np

from posa_vla.console import progress
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.media.images import fit_images
from posa_vla.errors import BadInput
from posa_vla.evaluation.rollout import Rollout
from posa_vla.evidence.record import EpisodeRow
from posa_vla.policy.policy import Observation, Policy

# Frames asked about at once.
_BATCH = 16


def explain_episode(policy: Policy, episode: Episode, cameras: list[str], image_size: int) -> Rollout:
    """Asks a policy about every frame of an episode; nothing is executed.

    Args:
        policy: A policy that reports its attention.
        episode: Of the policy's embodiment; images of any size.
        cameras: Roles that the policy looks through.
        image_size: Side of its images, pixels.

    Returns:
        The episode's frames with the attention at each, for `posa_vla.evaluation.pictures`; no anchor attention of a
        policy without anchors.

    Raises:
        BadInput: The episode lacks a camera or does not fit the policy, or the policy has no attention.
    """
    missing = [role for role in cameras if role not in episode.cameras]
    if missing:
        raise BadInput(f"the episode lacks camera {missing[0]!r}: it has {sorted(episode.cameras)}")
    images = {role: fit_images(episode.cameras[role].images, image_size) for role in cameras}
    row = EpisodeRow(scene_seed=0, success=episode.success, steps=0, path_length=0)
    rollout = Rollout(row, episode.instruction, prompts=episode.prompts)
    with progress("explain", len(episode), unit="frames") as advance:
        for start in range(0, len(episode), _BATCH):
            frames = range(start, min(start + _BATCH, len(episode)))
            batch = [
                Observation({role: images[role][n] for role in cameras}, episode.state[n], episode.prompt(n))
                for n in frames
            ]
            chunk = policy.act(batch, seed=start, attention=True)
            if chunk.cross_attention is None:
                raise BadInput("this policy has no attention to show")
            for role in cameras:
                rollout.images.setdefault(role, []).extend(images[role][n] for n in frames)
                if chunk.attention is not None:
                    rollout.attention.setdefault(role, []).extend(np.asarray(chunk.attention[role]))
                rollout.cross_attention.setdefault(role, []).extend(np.asarray(chunk.cross_attention[role]))
            advance(len(frames))
    return rollout
