"""Demonstrations from the scripted expert, in parallel over the cores, continued where a killed run stopped."""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.code_digest import code_digest
from posa_vla.console import progress
from posa_vla.episodes.embodiment import embodiment_file, load_embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import require_free_space, sha256_file, sha256_json
from posa_vla.machine import processors
from posa_vla.params import CollectParams, PerturbParams
from posa_vla.policy.execution import Execution
from posa_vla.processes import set_variables
from posa_vla.seeds import COLLECTION_SEEDS
from posa_vla.sim.demonstration import demonstrate, relabelled
from posa_vla.sim.environment import TaskEnvironment, make_environment
from posa_vla.sim.gl import require_gl
from posa_vla.sim.parts import count_part, pictures_bytes, read_part, write_part
from posa_vla.sim.tasks import Kinds, make_kinds, require_task

if TYPE_CHECKING:
    from posa_vla.model.posa_policy import PosAPolicy

# Scenes in a block: what a killed run may lose for each core, and the grain of the work.
_BLOCK = 8
# Steps after which the expert has failed; noise costs it some.
_MAX_STEPS = 60
# Attempts for each episode asked for before collection gives up on the expert.
_PATIENCE = 5


@dataclass(frozen=True)
class Learner:
    """A policy whose rollouts the expert relabels.

    Attributes:
        folder: Of its bundle, which is verified.
        digest: Of its bundle.
        way: How its flow is sampled; as the bundle says if None.
    """

    folder: Path
    digest: str
    way: Execution | None = None


@dataclass(frozen=True)
class _Block:
    """The episodes of `_BLOCK` neighbouring seeds."""

    embodiment: str
    task: str
    params: CollectParams
    learner: Learner | None
    seed: int
    path: Path


@functools.cache
def _environment(
    embodiment: str, task: str, image_size: int, objects: int, perturb: PerturbParams, kinds: Kinds
) -> TaskEnvironment:
    return make_environment(
        embodiment, task, image_size=image_size, objects=objects, max_steps=_MAX_STEPS, perturb=perturb, kinds=kinds
    )


@functools.cache
def _policy(learner: Learner) -> PosAPolicy:
    from posa_vla.model.posa_policy import load_policy

    policy = load_policy(learner.folder, learner.digest, threads=1)
    return policy if learner.way is None else policy.with_flow(learner.way.flow_steps, learner.way.start_noise)


def _collect_block(block: _Block) -> None:
    params, learner = block.params, block.learner
    kinds = make_kinds(params.held_out, (), params.objects)
    environment = _environment(block.embodiment, block.task, params.image_size, params.objects, params.perturb, kinds)
    seeds = range(block.seed, block.seed + _BLOCK)
    if learner is None:
        attempts = (demonstrate(environment, seed, params.noise) for seed in seeds)
        write_part(block.path, [episode for episode in attempts if episode is not None])
    else:
        policy = _policy(learner)
        rollouts = (relabelled(environment, seed, policy, params.beta, params.execute) for seed in seeds)
        write_part(block.path, list(rollouts))


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


# Processes that are started with these compute on one thread: BLAS reads them when it is first loaded.
_ONE_THREAD_EACH = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def _content_key(embodiment: str, task: str, params: CollectParams, learner: Learner | None) -> str:
    """Key of everything that decides what a seed's demonstration is; how many are wanted is no part of it."""
    declared = load_embodiment(embodiment)
    if declared.arm is None:
        raise BadInput(f"embodiment {embodiment} declares no `arm`: the simulator cannot collect with it")
    arm_file = embodiment_file(embodiment).parent / declared.arm.mjcf
    if not arm_file.is_file():
        raise BadInput(f"arm model {arm_file} does not exist: `arm.mjcf` is relative to the embodiment file")
    return sha256_json(
        {
            "embodiment": declared.digest,
            "arm": sha256_file(arm_file),
            "task": task,
            "params": params.model_dump(mode="json", exclude={"episodes", "seed"}),
            "learner": None if learner is None else learner.digest,
            "way": None if learner is None or learner.way is None else learner.way.model_dump(mode="json"),
            "code": code_digest("posa_vla.sim.collect"),
            "mujoco": importlib.metadata.version("mujoco"),
        }
    )


class _Blocks:
    """Blocks in seed order, finished ones taken from the disk, the next ones computed ahead."""

    def __init__(self, embodiment: str, task: str, params: CollectParams, parts: Path, learner: Learner | None) -> None:
        self._arguments = (embodiment, task, params, learner)
        self._seed = params.seed
        self._folder = parts / _content_key(embodiment, task, params, learner)
        self._running: dict[int, Future[None]] = {}

    def path(self, number: int) -> Path:
        return self._folder / f"{self._seed + number * _BLOCK:010d}.safetensors"

    def submit(self, pool: ProcessPoolExecutor, number: int) -> None:
        if number in self._running or self.path(number).exists():
            return
        seed = self._seed + number * _BLOCK
        if seed + _BLOCK > COLLECTION_SEEDS.stop:
            raise BadInput(
                f"collection ran out of scene seeds at {seed} (they end at {COLLECTION_SEEDS.stop}): "
                f"lower collect.seed, now {self._seed}"
            )
        self._running[number] = pool.submit(_collect_block, _Block(*self._arguments, seed, self.path(number)))

    def finish(self, number: int) -> int:
        """Waits for a block; returns its number of episodes."""
        future = self._running.pop(number, None)
        if future is not None:
            future.result()
        return count_part(self.path(number))


def collect(
    embodiment: str,
    task: str,
    params: CollectParams,
    parts: Path,
    *,
    learner: Learner | None = None,
    workers: int | None = None,
) -> Iterator[Episode]:
    """Demonstrations of the first `params.episodes` scenes, from `params.seed` on, that the expert solves.

    With a learner: its rollouts on the first `params.episodes` scenes, solved or not, relabelled by the expert.

    Which they are and what is in them depends neither on the number of processes nor on where earlier calls were
    killed. Finished blocks stay under `parts`, keyed by what made them.

    Args:
        embodiment: A shipped embodiment's name or the path of an embodiment file.
        task: A task of `posa_vla.sim.tasks`.
        params: How many, which seeds, image size, objects, noise, perturbation.
        parts: Folder of finished blocks; made where it does not exist.
        learner: Policy whose rollouts are relabelled; none for the expert's own demonstrations.
        workers: Processes; by default one for each core that this process may use.

    Raises:
        BadInput: Unknown embodiment or task, no OpenGL library, a damaged part, or no room on the disk.
        PosaError: A worker died, or the expert fails at nearly every scene.
    """
    require_task(task)
    require_gl()
    blocks = _Blocks(embodiment, task, params, parts, learner)
    cameras = len(load_embodiment(embodiment).cameras)
    require_free_space(parts, pictures_bytes(params, cameras), "collecting demonstrations")
    counts = _finished_counts(blocks, params.episodes)
    if sum(counts) < params.episodes:
        counts = _complete(blocks, counts, params.episodes, workers or processors())
    left = params.episodes
    for number in range(len(counts)):
        for episode in read_part(blocks.path(number))[:left]:
            left -= 1
            yield episode


def _finished_counts(blocks: _Blocks, wanted: int) -> list[int]:
    """Episodes in each block that is there already, up to the first gap."""
    counts: list[int] = []
    while sum(counts) < wanted and blocks.path(len(counts)).exists():
        counts.append(count_part(blocks.path(len(counts))))
    return counts


def _complete(blocks: _Blocks, counts: list[int], wanted: int, workers: int) -> list[int]:
    """Computes blocks until enough episodes are there; returns the count of each block."""
    most = _PATIENCE * (-(-wanted // _BLOCK) + 2)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        with progress("collect", wanted, done=sum(counts), unit="episodes") as advance, set_variables(_ONE_THREAD_EACH):
            while (have := sum(counts)) < wanted:
                if len(counts) >= most:
                    raise PosaError(
                        f"the expert solved {have} of {len(counts) * _BLOCK} scenes, expected at least one in "
                        f"{_PATIENCE}: check the embodiment's arm and limits, or lower collect.noise"
                    )
                # No more than the missing episodes can need, so that nearly nothing is computed in vain.
                ahead = min(2 * workers, -(-(wanted - have) // _BLOCK))
                for number in range(len(counts), len(counts) + ahead):
                    blocks.submit(pool, number)
                counts.append(blocks.finish(len(counts)))
                advance(min(counts[-1], wanted - have))
    except BrokenProcessPool:
        raise PosaError(
            "a collecting process died (killed, or out of memory): run again, finished scenes are kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return counts
