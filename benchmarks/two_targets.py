"""Whether a policy that starts from less noise averages two answers that are equally right.

    python benchmarks/two_targets.py [--quick] [--json]

Scenes of task `pick_either` hold two equal objects. The expert takes one of them, whichever the seed says, so that
demonstrations disagree. A policy is trained on them, and run with the flow's start scaled by 0, 0.5 and 1.
`undecided` is the share of scenes in which its fingertips came within two centimetres of neither. It takes about ten
minutes on two cores; `--quick` takes one and its figures say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.console import print_json, print_table, progress
from posa_vla.params import CollectParams, EvaluateParams, Params, PrepareParams, TargetParams, TrainParams
from posa_vla.seeds import TUNING_SEEDS

NOISES = (0.0, 0.5, 1.0)
FLOW_STEPS = (2, 6)
# How near a fingertip comes to an object that it goes for (m).
_NEAR = 0.02


def _train(folder: Path, episodes: int, steps: int) -> Path:
    from posa_vla.dataset.shards.pack import pack_episodes
    from posa_vla.episodes.embodiment import load_embodiment
    from posa_vla.sim.collect import collect
    from posa_vla.training.loop import train

    demonstrations = collect("sim_arm6", "pick_either", CollectParams(episodes=episodes), folder / "parts")
    pack_episodes(demonstrations, load_embodiment("sim_arm6"), PrepareParams(), folder / "data")
    target = TargetParams(embodiment="sim_arm6", task="pick_either")
    params = Params(target="either", targets={"either": target}, train=TrainParams(steps=steps, seed=1000))
    return train(folder / "data", params, folder / "training")


def _run(policy_folder: Path, scenes: int) -> list[dict[str, Any]]:
    from posa_vla.evaluation.rollout import run_episode
    from posa_vla.model.posa_policy import load_policy
    from posa_vla.sim.environment import TaskEnvironment, make_environment

    class Nearest(TaskEnvironment):
        """Remembers how near the fingertips came to either of the equal objects (m)."""

        nearest = np.inf

        def step(self, action: Any) -> Any:
            stepped = super().step(action)
            privileged, end_effector = stepped[4]["privileged"], stepped[4]["end_effector"]
            right = privileged["objects"][[self.scene.target, *self.scene.equals]]
            distances = np.linalg.norm(right - end_effector[:3], axis=1)
            self.nearest = min(self.nearest, float(distances.min()))
            return stepped

    limits = EvaluateParams()
    made = make_environment(
        "sim_arm6", "pick_either", image_size=64, objects=limits.objects, max_steps=limits.max_steps
    )
    environment = Nearest(made.simulation, "pick_either", objects=limits.objects, max_steps=limits.max_steps)
    policy = load_policy(policy_folder, "two-targets", threads=1)
    rows = []
    with progress("run", len(NOISES) * len(FLOW_STEPS) * scenes, unit="episodes") as advance:
        for steps in FLOW_STEPS:
            for noise in NOISES:
                way = limits.model_copy(update={"flow_steps": steps, "start_noise": noise})
                outcomes, undecided = [], 0
                for seed in TUNING_SEEDS[:scenes]:
                    environment.nearest = np.inf
                    outcomes.append(run_episode(policy, environment, seed, way).row)
                    undecided += environment.nearest > _NEAR
                    advance(1)
                taken = [row.steps for row in outcomes if row.success]
                rows.append(
                    {
                        "flow_steps": steps,
                        "start_noise": noise,
                        "success": len(taken) / scenes,
                        "undecided": undecided / scenes,
                        "steps": statistics.mean(taken) if taken else None,
                    }
                )
    environment.close()
    return rows


def main() -> None:
    """Prints the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a policy that has learnt next to nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    episodes, steps, scenes = (16, 20, 4) if arguments.quick else (600, 750, 200)
    with tempfile.TemporaryDirectory() as name:
        rows = _run(_train(Path(name), episodes, steps), scenes)
    if arguments.json:
        print_json({"demonstrations": episodes, "steps": steps, "scenes": scenes, "ways": rows})
        return
    print_table(
        f"Two equal objects, {scenes} scenes",
        [
            (
                f"{row['flow_steps']} flow steps, start noise {row['start_noise']}",
                f"{row['success']:.0%} solved, {row['undecided']:.0%} undecided",
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
