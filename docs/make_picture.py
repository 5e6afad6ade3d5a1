"""Draws the README's picture: what the robot's head camera sees, and the champion's anchor attention over it.

    python docs/make_picture.py [--solved N] [--out docs/attention.png]

Runs the workspace's champion (`make demo` makes one) on unseen scenes until N are solved, and shows the last of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from posa_vla.evaluation.environments import open_environment
from posa_vla.evaluation.pictures import enlarge, overlay
from posa_vla.evaluation.rollout import Rollout, run_episode
from posa_vla.evidence.suite import Suite
from posa_vla.model.posa_policy import load_policy
from posa_vla.params_file import load_params
from posa_vla.promotion.champion import champion_bundle
from posa_vla.release.bundle import verify_bundle
from posa_vla.seeds import scene_seeds
from posa_vla.workspace import Workspace

MOMENTS, TILE, GAP = 4, 256, 6


def solved_rollout(number: int) -> Rollout:
    """The champion's `number`-th rollout that reached its goal, recorded."""
    params, workspace = load_params(Path("params.yaml")), Workspace.open()
    digest = champion_bundle(workspace, params.target)
    if digest is None:
        sys.exit(f"{workspace.home} has no champion yet: make demo")
    folder = workspace.bundles / digest
    verify_bundle(folder, digest)
    policy = load_policy(folder, digest)
    seeds = scene_seeds(digest, 20)
    environment = open_environment(Suite.of(params, seeds))
    for seed in seeds:
        rollout = run_episode(policy, environment, seed, params.evaluate, record=True)
        number -= rollout.row.success
        if number == 0:
            return rollout
    sys.exit(f"the champion solved too few of {len(seeds)} scenes: there is nothing to show")


def draw(rollout: Rollout) -> Image.Image:
    """Head view above, the same under its attention below, for moments that are evenly spread."""
    images, attention = rollout.images["head"], rollout.attention["head"]
    moments = np.linspace(0, len(images) - 1, MOMENTS).round().astype(int)
    sheet = np.full((2 * TILE + GAP, MOMENTS * (TILE + GAP) - GAP, 3), 255, np.uint8)
    for column, moment in enumerate(moments):
        left = column * (TILE + GAP)
        seen = enlarge(images[moment], TILE)
        sheet[:TILE, left : left + TILE] = seen
        sheet[TILE + GAP :, left : left + TILE] = overlay(seen, attention[moment])
    return Image.fromarray(sheet)


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solved", type=int, default=1, metavar="N", help="which of the solved scenes to show")
    parser.add_argument("--out", type=Path, default=Path("docs/attention.png"), help="the picture")
    arguments = parser.parse_args()
    rollout = solved_rollout(arguments.solved)
    draw(rollout).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {rollout.instruction!r}, solved in {rollout.row.steps} steps")


if __name__ == "__main__":
    main()
