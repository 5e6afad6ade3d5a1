"""Rollouts in simulation: unseen scenes, one row an episode, and evidence of them all."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posa_vla.console import progress
from posa_vla.errors import BadInput
from posa_vla.evidence.evidence import EpisodeRow, Evidence
from posa_vla.files import canonical_json, sha256_json
from posa_vla.objects import Objects, open_objects
from posa_vla.params import EvaluateParams, Params
from posa_vla.policy.execution import ChunkExecutor, Execution, execution_of
from posa_vla.policy.policy import ActionChunk, Observation, Policy
from posa_vla.schema import parse_json
from posa_vla.seeds import look_seed

_VERSIONED = ("posa-vla", "torch", "mujoco", "mink", "numpy")


class Environment(Protocol):
    """What a rollout needs of a Gymnasium environment (see sim/environment.py)."""

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the scene of a seed; returns observation and info."""
        ...

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Applies one action; returns observation, reward, terminated, truncated, info."""
        ...


@dataclass
class Rollout:
    """One episode of a policy.

    Attributes:
        row: The outcome.
        instruction: What the policy was asked to do.
        images: Role -> the frame of every step, uint8 (H, W, 3); empty unless recorded.
        attention: Role -> the anchor attention (K, h, w) that the step was taken under; empty unless recorded.
        cross_attention: Role -> the action head's share of attention (k, l) on each image cell; likewise.
    """

    row: EpisodeRow
    instruction: str
    images: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    cross_attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)


def _record(rollout: Rollout, images: Mapping[str, NDArray[np.uint8]], chunk: ActionChunk | None) -> None:
    for role, image in images.items():
        rollout.images.setdefault(role, []).append(image)
    for kept, maps in (
        (rollout.attention, chunk and chunk.attention),
        (rollout.cross_attention, chunk and chunk.cross_attention),
    ):
        for role, values in (maps or {}).items():
            kept.setdefault(role, []).append(values[0])


def path_length(positions: NDArray[Any]) -> float:
    """Metres along positions (T, 3)."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def mean_jerk(positions: NDArray[Any]) -> float | None:
    """Root mean square jerk along positions (T, 3), m per cubed control period; None of fewer than four."""
    if len(positions) < 4:
        return None
    return float(np.sqrt((np.diff(positions, n=3, axis=0) ** 2).sum(1).mean()))


def run_episode(
    policy: Policy, environment: Environment, seed: int, params: EvaluateParams, record: bool = False
) -> Rollout:
    """Runs one scene to success, to the step limit, or to an action that is not a number.

    Args:
        policy: Run as `params` say; its randomness is seeded by scene and chunk.
        environment: Terminates on success, truncates at the step limit.
        seed: Of the scene.
        params: Of the execution.
        record: Whether to keep images and attention of every step.
    """
    observation, info = environment.reset(seed=seed)
    rollout = Rollout(EpisodeRow(scene_seed=seed, success=False, steps=0, path_length=0), str(info["instruction"]))
    way = execution_of(params, policy.flow_steps)
    planner: ChunkExecutor[None] = ChunkExecutor(policy, way, partial(look_seed, seed), attention=record)
    path, steps, over = [np.asarray(info["end_effector"][:3])], 0, False
    code = "ok"
    while not over:
        seen = Observation(observation["images"], observation["state"], rollout.instruction)
        action = planner.next(seen, None).action
        if not np.isfinite(action).all():
            code = "nan-action"
            break
        if record:
            _record(rollout, observation["images"], planner.chunk)
        observation, _, terminated, truncated, info = environment.step(action)
        steps += 1
        path.append(np.asarray(info["end_effector"][:3]))
        over = terminated or truncated
    success = bool(info["success"]) and code == "ok"
    rollout.row = EpisodeRow(
        scene_seed=seed,
        success=success,
        steps=steps,
        path_length=path_length(np.stack(path)),
        jerk=mean_jerk(np.stack(path)),
        return_code=code,
    )
    return rollout


@dataclass(frozen=True)
class Suite:
    """The conditions of an evaluation; policies that ran the same suite can be compared pair by pair.

    Attributes:
        embodiment: Shipped name or file.
        task: Name of the task.
        seeds: Scenes.
        params: Limits.
        image_size: Pixels along each side of what the simulator's cameras show; a policy fits it into its own square.
        flow_steps: The policy's own (`Policy.flow_steps`): they count where the parameters name none.
    """

    embodiment: str
    task: str
    seeds: Sequence[int]
    params: EvaluateParams
    image_size: int
    flow_steps: int | None = None

    @property
    def execution(self) -> Execution:
        """How the policy is run."""
        return execution_of(self.params, self.flow_steps)

    @staticmethod
    def of(params: Params, seeds: Sequence[int]) -> Suite:
        """The conditions that parameters state: the cameras are those that demonstrations are collected with."""
        target = params.chosen
        return Suite(target.embodiment, target.task, seeds, params.evaluate, params.collect.image_size)

    def describe(self) -> dict[str, Any]:
        """JSON values that fix the conditions."""
        return {
            "task": self.task,
            "embodiment": Path(self.embodiment).stem,
            "objects": self.params.objects,
            **self.execution.model_dump(mode="json"),
            "image_size": self.image_size,
            "perturb": self.params.perturb.model_dump(mode="json"),
            "held_out": list(self.params.held_out),
            "targets": list(self.params.targets),
            "seeds": sha256_json(list(self.seeds)),
        }

    def open(self) -> Any:
        """The environment of these conditions."""
        from posa_vla.sim.environment import make_environment
        from posa_vla.sim.gl import require_gl
        from posa_vla.sim.tasks import make_kinds

        require_gl()
        return make_environment(
            self.embodiment,
            self.task,
            image_size=self.image_size,
            objects=self.params.objects,
            max_steps=self.params.max_steps,
            perturb=self.params.perturb,
            kinds=make_kinds(self.params.held_out, self.params.targets, self.params.objects),
        )


def require_rendered(params: Params, seen: int, what: str) -> None:
    """Stops where the simulator would show less than a policy takes: blown up pictures are worth nothing.

    Args:
        params: `collect.image_size` is what the simulator shows, in demonstrations as in rollouts.
        seen: Pixels along each side of what the policy takes.
        what: Where that number stands.

    Raises:
        BadInput: The simulator shows less.
    """
    shown = params.collect.image_size
    if seen > shown:
        raise BadInput(
            f"{what} is {seen} and collect.image_size {shown}: the simulator's pictures would be blown up. "
            f"Set collect.image_size={seen} or more, or train with prepare.image_size={shown} or less"
        )


def require_trainable(params: Params) -> None:
    """Stops where demonstrations of the simulator would be blown up for training.

    Raises:
        BadInput: See `require_rendered`.
    """
    require_rendered(params, params.prepare.image_size, "prepare.image_size")


class Rows:
    """Finished episodes, one object each, so that a killed evaluation continues; another policy's never count."""

    def __init__(self, objects: Objects, folder: str, digest: str, suite: Suite) -> None:
        self._objects = objects
        self._folder = f"{folder}/rows/{sha256_json({'policy': digest, 'suite': suite.describe()})[:16]}"

    def _path(self, seed: int) -> str:
        return f"{self._folder}/{seed}.json"

    def add(self, row: EpisodeRow) -> None:
        """Keeps a valid outcome; an episode without one is run again by the next call."""
        if row.return_code == "ok":
            self._objects.put(self._path(row.scene_seed), canonical_json(row.model_dump(mode="json")))

    def count(self) -> int:
        """How many there are."""
        return len(self._objects.list(f"{self._folder}/"))

    def find(self, seeds: Sequence[int]) -> dict[int, EpisodeRow]:
        """Rows that are there already, by seed."""
        there = set(self._objects.list(f"{self._folder}/"))
        rows = {}
        for seed in seeds:
            data = self._objects.get(self._path(seed)) if self._path(seed) in there else None
            if data is not None:
                rows[seed] = parse_json(EpisodeRow, data, self._path(seed))
        return rows


def gather(digest: str, suite: Suite, rows: dict[int, EpisodeRow]) -> Evidence:
    """The evidence record of a suite's rows, in the order of its seeds."""
    versions = {}
    for name in _VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Evidence(
        policy_digest=digest,
        suite=suite.describe(),
        planned=len(suite.seeds),
        rows=[rows[seed] for seed in suite.seeds if seed in rows],
        hardware=f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        versions=versions,
    )


def evaluate(
    policy: Policy,
    suite: Suite,
    out: Path,
    *,
    make: Callable[[Suite], Environment] = Suite.open,
) -> Evidence:
    """Runs a policy on every scene in this process; continues where a killed call stopped.

    Args:
        policy: Under test.
        suite: Scenes and conditions; of the first `suite.params.videos` scenes a video is kept.
        out: Folder of this evaluation: rows and videos.
        make: Opens the environment.
    """
    from posa_vla.evaluation.report import keep_rollout

    suite = replace(suite, flow_steps=policy.flow_steps)
    seeds, params = suite.seeds, suite.params
    objects, folder = open_objects(str(out.parent)), out.name
    kept = Rows(objects, folder, policy.digest, suite)
    rows = kept.find(seeds)
    environment = make(suite)
    with progress("evaluate", len(seeds), done=len(rows), unit="episodes") as advance:
        for number, seed in enumerate(seeds):
            if seed in rows:
                continue
            record = number < params.videos
            rollout = run_episode(policy, environment, seed, params, record)
            if record:
                keep_rollout(objects, folder, rollout)
            kept.add(rollout.row)
            rows[seed] = rollout.row
            advance(1, f"{sum(row.success for row in rows.values())} solved")
    return gather(policy.digest, suite, rows)
