"""What each part of the recipe is worth: trainings that differ in one thing, on seeds that decide nothing.

    python benchmarks/recipe.py --out DIR [--recipes NAME ...] [--task pick_either] [--quick] [--json]

Each recipe is trained with three seeds on 600 demonstrations, one process and one thread a training, and run on
300 scenes of the tuning's range. Finished trainings stay in DIR, and a later call goes on from them. A training takes
about four minutes on one core, a way of running it 40 seconds.

Scenes of task `pick_either` hold two equal objects, of which the expert takes either. `undecided` is the share of
scenes in which the fingertips came within two centimetres of neither, as where a policy averages two right answers.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.console import print_json, print_table, progress
from posa_vla.params import CollectParams, EvaluateParams, Params, PrepareParams
from posa_vla.schema import parse
from posa_vla.seeds import TUNING_SEEDS

# Overlays of preset `small`.
RECIPES: dict[str, dict[str, Any]] = {
    "shipped": {},
    "no-bias": {"model": {"contrastive_bias": False}},
    "flat-trunk": {"model": {"trunk": "flat"}},
    "flat-trunk-no-bias": {"model": {"trunk": "flat", "contrastive_bias": False}},
    "no-contrastive": {"train": {"anchor_alpha": 1}},
    "learning-rate-0.004": {"train": {"learning_rate": 0.004}},
    "two-draws": {"train": {"flow_draws": 2}},
    "eight-draws": {"train": {"flow_draws": 8}},
}
TRAINING_SEEDS = (1000, 1001, 1002)
# Flow steps and the scale of the noise that the flow starts from.
WAYS = ((2, 0.0), (2, 1.0), (6, 0.0), (6, 1.0))
# How near the fingertips come to an object that they go for (m).
_NEAR = 0.02


def _params(recipe: str, task: str, seed: int, steps: int) -> Params:
    value: dict[str, Any] = {"target": "bench", "targets": {"bench": {"embodiment": "sim_arm6", "task": task}}}
    overlay = RECIPES[recipe]
    train = {"workers": 1, **overlay.get("train", {}), "seed": seed, "steps": steps}
    return parse(Params, {**value, **overlay, "train": train}, f"recipe {recipe}")


def _data(folder: Path, task: str, episodes: int) -> Path:
    from posa_vla.dataset.shards.pack import pack_episodes
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.sim.collect import collect

    data = folder / "data"
    if not data.exists():
        demonstrations = collect("sim_arm6", task, CollectParams(episodes=episodes), folder / "parts")
        pack_episodes(demonstrations, load_embodiment("sim_arm6"), PrepareParams(), data)
    return data


def _run(policy_folder: Path, task: str, way: tuple[int, float], scenes: int) -> dict[str, Any]:
    from posa_vla.evaluation.rollout import run_episode
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.sim.environment import TaskEnvironment, make_environment

    class Nearest(TaskEnvironment):
        """Remembers how near the fingertips came to an object that is right (m)."""

        nearest = np.inf

        def step(self, action: Any) -> Any:
            stepped = super().step(action)
            right = stepped[4]["privileged"]["objects"][[self.scene.target, *self.scene.equals]]
            distances = np.linalg.norm(right - stepped[4]["end_effector"][:3], axis=1)
            self.nearest = min(self.nearest, float(distances.min()))
            return stepped

    params = EvaluateParams(flow_steps=way[0], start_noise=way[1])
    limits: dict[str, Any] = {"objects": params.objects, "max_steps": params.max_steps}
    made = make_environment("sim_arm6", task, image_size=64, **limits)
    environment = Nearest(made.simulation, task, **limits)
    policy = load_policy(policy_folder, "recipe", threads=1)
    rows, far = [], 0
    for seed in TUNING_SEEDS[:scenes]:
        environment.nearest = np.inf
        rows.append(run_episode(policy, environment, seed, params).row)
        far += environment.nearest > _NEAR
    environment.close()
    solved = [row.steps for row in rows if row.success]
    return {
        "flow_steps": way[0],
        "start_noise": way[1],
        "success": len(solved) / scenes,
        "steps_all": statistics.mean(row.steps if row.success else params.max_steps for row in rows),
        "steps_solved": statistics.mean(solved) if solved else None,
        "jerk_mm": 1e3 * statistics.mean(row.jerk for row in rows if row.jerk is not None),  # of all episodes
        "never_near": far / scenes,
    }


def measure(out: Path, recipes: list[str], task: str, quick: bool) -> list[dict[str, Any]]:
    """A row a recipe, training seed and way of running it."""
    from posa_vla.code_digest import code_digest
    from posa_vla.files import sha256_json
    from posa_vla.training.loop import train

    episodes, steps, scenes, seeds = (16, 20, 4, TRAINING_SEEDS[:1]) if quick else (600, 750, 300, TRAINING_SEEDS)
    folder = out / f"{task}{'-quick' if quick else ''}"
    data = _data(folder, task, episodes)
    rows = []
    with progress("recipes", len(recipes) * len(seeds) * len(WAYS), unit="runs") as advance:
        for recipe in recipes:
            for seed in seeds:
                params = _params(recipe, task, seed, steps)
                inputs = {"params": params.model_dump(mode="json"), "code": code_digest("posa_vla.training")}
                policy = train(data, params, folder / f"{recipe}-{seed}-{sha256_json(inputs)[:12]}")
                for way in WAYS:
                    rows.append({"recipe": recipe, "seed": seed, **_run(policy, task, way, scenes)})
                    advance(1, f"{recipe} {rows[-1]['success']:.0%}")
    return rows


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of data and trainings")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="all by default")
    parser.add_argument("--task", choices=["pick", "pick_either"], default="pick", help="pick by default")
    parser.add_argument("--quick", action="store_true", help="policies that have learnt next to nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = measure(arguments.out, arguments.recipes, arguments.task, arguments.quick)
    if arguments.json:
        print_json({"task": arguments.task, "quick": arguments.quick, "rows": rows})
        return
    print_table(
        f"Recipes, task {arguments.task}",
        [
            (
                f"{row['recipe']}, seed {row['seed']}, {row['flow_steps']} flow steps, noise {row['start_noise']}",
                f"{row['success']:.0%} solved, {row['steps_all']:.1f} steps, {row['undecided']:.0%} undecided",
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
