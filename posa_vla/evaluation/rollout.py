"""Rollouts in simulation: unseen scenes, one row an episode, and evidence of them all."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posa_vla.console import say
from posa_vla.errors import BadInput, PosaError
from posa_vla.evidence.record import EpisodeRow
from posa_vla.params import EvaluateParams, Params
from posa_vla.policy.execution import Asked, ChunkExecutor, execution_of
from posa_vla.policy.policy import ActionChunk, Observation, Policy
from posa_vla.seeds import look_seed


class Environment(Protocol):
    """What a rollout needs of a Gymnasium environment (see sim/environment.py)."""

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the scene of a seed; returns observation and info."""
        ...

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Applies one action; returns observation, reward, terminated, truncated, info."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


@dataclass
class Rollout:
    """One episode of a policy.

    Attributes:
        row: The outcome.
        instruction: What the policy was asked to do.
        images: Role -> the frame of every step, uint8 (H, W, 3); empty unless recorded.
        attention: Role -> the anchor attention (K, h, w) that the step was taken under; empty unless recorded, and of a
            policy without anchors.
        cross_attention: Role -> the action head's share of attention (k, l) on each image cell; likewise.
        prompts: What it was asked at every step, or None where that is the instruction all along.
    """

    row: EpisodeRow
    instruction: str
    images: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    cross_attention: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    prompts: tuple[str, ...] | None = None


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


class _Episode:
    """A scene under way: what is seen, and the policy's plan for it."""

    def __init__(
        self, policy: Policy, environment: Environment, seed: int, params: EvaluateParams, record: bool
    ) -> None:
        self.environment, self.record = environment, record
        self.observation, self.info = environment.reset(seed=seed)
        row = EpisodeRow(scene_seed=seed, success=False, steps=0, path_length=0)
        self.rollout = Rollout(row, str(self.info["instruction"]))
        way = execution_of(params, policy.flow_steps)
        self.planner: ChunkExecutor[None] = ChunkExecutor(policy, way, partial(look_seed, seed), attention=record)
        self._path, self._steps = [np.asarray(self.info["end_effector"][:3])], 0

    @property
    def seen(self) -> Observation:
        """What the policy sees now."""
        return Observation(self.observation["images"], self.observation["state"], self.rollout.instruction)

    def step(self, answer: ActionChunk | str | None) -> bool:
        """Does a control step, with the policy's answer where it was asked; returns whether the episode is over.

        Instead of an answer it may be handed why there is none, which ends the episode.
        """
        if isinstance(answer, str):
            return self._over(answer)
        action = self.planner.next(self.seen, None, answer).action
        if not np.isfinite(action).all():
            return self._over("nan-action")
        if self.record:
            _record(self.rollout, self.observation["images"], self.planner.chunk)
        self.observation, _, terminated, truncated, self.info = self.environment.step(action)
        self._steps += 1
        self._path.append(np.asarray(self.info["end_effector"][:3]))
        return self._over("ok") if terminated or truncated else False

    def _over(self, code: str) -> bool:
        self.rollout.row = EpisodeRow(
            scene_seed=self.rollout.row.scene_seed,
            success=bool(self.info["success"]) and code == "ok",
            steps=self._steps,
            path_length=path_length(np.stack(self._path)),
            jerk=mean_jerk(np.stack(self._path)),
            return_code=code,
        )
        return True


def _asked(policy: Policy, group: Sequence[Asked], record: bool) -> list[ActionChunk | str]:
    """The policy's answers from one call; or, for each of those that it fails on alone, why there is none.

    Raises:
        PosaError: The policy cannot be asked with such observations at all.
    """
    committed = [asked.committed for asked in group if asked.committed is not None]
    try:
        chunk = policy.act(
            [asked.observation for asked in group],
            committed=np.concatenate(committed) if committed else None,
            seed=[asked.seed for asked in group],
            attention=record,
        )
    except PosaError:
        raise
    except Exception as error:  # whatever a policy's own code raises: it loses an episode, not the run
        if len(group) > 1:
            return [answer for asked in group for answer in _asked(policy, [asked], record)]
        say(f"policy {policy.digest[:12]} raised {type(error).__name__}: {error}; the episode is lost")
        return ["policy-error"]
    expected = (len(group), policy.horizon)
    if chunk.actions.shape[:2] != expected:
        given = f"{chunk.actions.shape[0]} chunks of {chunk.actions.shape[1]} actions"
        say(f"policy {policy.digest[:12]} gave {given}, expected {expected[0]} of {expected[1]}")
        return ["wrong-shape"] * len(group)
    return [chunk.row(row) for row in range(len(group))]


def _answers(episodes: Sequence[_Episode]) -> dict[int, ActionChunk | str]:
    """Place in the list -> the policy's answer, for episodes that have to ask; one call for all that are alike."""
    alike: dict[tuple[bool, bool], list[tuple[int, Asked]]] = {}
    for place, episode in enumerate(episodes):
        asked = episode.planner.request(episode.seen)
        if asked is not None:
            alike.setdefault((asked.committed is not None, episode.record), []).append((place, asked))
    answers: dict[int, ActionChunk | str] = {}
    for (_, record), group in alike.items():
        places = [place for place, _ in group]
        given = _asked(episodes[places[0]].planner.policy, [asked for _, asked in group], record)
        answers |= dict(zip(places, given, strict=True))
    return answers


def run_episodes(
    policy: Policy,
    environments: Sequence[Environment],
    seeds: Iterable[int],
    params: EvaluateParams,
    recorded: Collection[int] = (),
) -> Iterator[Rollout]:
    """Runs scenes to success, to the step limit, or to where the policy gives no action; yields them as they end.

    The policy is asked once for all environments that need an answer at a control step. What a scene's row says follows
    from its seed alone, up to the rounding of the arithmetic of larger batches.

    Args:
        policy: Run as `params` say; its randomness is seeded by scene and chunk.
        environments: As many scenes as these are run at a time. Each terminates on success, truncates at the limit.
        seeds: Of the scenes.
        params: How the policy is executed.
        recorded: Seeds whose images and attention are kept.
    """
    left = iter(seeds)

    def begin(environment: Environment) -> list[_Episode]:
        return [_Episode(policy, environment, seed, params, seed in recorded) for seed in itertools.islice(left, 1)]

    episodes = [episode for environment in environments for episode in begin(environment)]
    while episodes:
        answers = _answers(episodes)
        going: list[_Episode] = []
        for place, episode in enumerate(episodes):
            if episode.step(answers.get(place)):
                yield episode.rollout
                going += begin(episode.environment)
            else:
                going.append(episode)
        episodes = going


def run_episode(
    policy: Policy, environment: Environment, seed: int, params: EvaluateParams, record: bool = False
) -> Rollout:
    """Runs one scene; see `run_episodes`."""
    (rollout,) = run_episodes(policy, [environment], [seed], params, [seed] if record else ())
    return rollout


def require_rendered(params: Params, seen: int, what: str) -> None:
    """Stops where the simulator renders fewer pixels than a policy takes: enlarged pictures show nothing more.

    Args:
        params: `collect.image_size` is what the simulator shows, in demonstrations as in rollouts.
        seen: Pixels along each side of what the policy takes.
        what: Place of that number, for the message.

    Raises:
        BadInput: The simulator renders fewer pixels.
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
