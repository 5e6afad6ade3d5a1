"""Each test of the shipped suites fails for a plug-in that breaks what it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from factories import make_embodiment
from numpy.typing import NDArray
from robot.fakes import SIZE, FakePolicy, FakeRobot

from posa_vla.errors import BadInput
from posa_vla.objects.directory import DirectoryObjects
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.robot.control.robot import Reading, synthetic_reading
from posa_vla.testing import ObjectsContract, PolicyContract, RobotContract

FAILED = (AssertionError, pytest.fail.Exception, BadInput, RuntimeError)
EMBODIMENT = make_embodiment()
OBSERVATION = Observation(
    synthetic_reading(EMBODIMENT, SIZE, "pick").images, np.zeros(len(EMBODIMENT.state), np.float32), "pick"
)


class WithoutLimits(FakeRobot):
    def __init__(self) -> None:
        super().__init__()
        channels = [channel.model_copy(update={"low": None, "high": None}) for channel in EMBODIMENT.action]
        self.embodiment = EMBODIMENT.model_copy(update={"action": channels})


class SeesOtherwise(FakeRobot):
    """Its readings are changed."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(disturb=lambda _, reading: replace(reading, **changes))


class RaisesWhereItStands(FakeRobot):
    gone = False

    def disconnect(self) -> None:
        self.gone = True

    def hold(self) -> None:
        if self.gone:
            raise RuntimeError("the port is closed")
        super().hold()


class ClockOfTheEpisode(FakeRobot):
    def __init__(self) -> None:
        super().__init__(end_after=3)

    def start_episode(self, seed: int) -> None:
        self.time = 0.0


class ReadsTheFuture(FakeRobot):
    def observe(self) -> Reading:
        return replace(super().observe(), time=self.time + 1)


class AppliesAnything(FakeRobot):
    def apply(self, action: NDArray[np.float32]) -> None:
        self.time += 0.1


class ReturnsAtOnce(FakeRobot):
    def apply(self, action: NDArray[np.float32]) -> None:
        super().apply(action)
        self.time -= 0.1

    def hold(self) -> None:
        self.held += 1


class Wanders(FakeRobot):
    """Its state goes on, whatever is done."""

    def __init__(self, *, can_move: bool) -> None:
        super().__init__()
        self.can_move = can_move

    def observe(self) -> Reading:
        reading = super().observe()
        return replace(reading, state=reading.state + np.float32(0.01 * len(self.applied)))


GREY = np.full((SIZE, SIZE, 3), 128, np.uint8)
ROBOTS: list[tuple[str, FakeRobot, tuple[Any, ...]]] = [
    ("test_capabilities_and_limits_are_declared_before_connect", WithoutLimits(), ()),
    *(
        ("test_an_episode_starts_with_a_reading_of_the_declared_shape", SeesOtherwise(**changes), ())
        for changes in (
            {"images": {"head": None}},
            {"images": {"head": GREY[:0]}},
            {"images": {"head": GREY.astype(np.float32)}},
            {"images": {"head": GREY[..., 0]}},
            {"images": {"nowhere": GREY}},
            {"state": np.zeros(3)},
            {"state": np.zeros(4, np.float32)},
            {"state": np.full(3, np.nan, np.float32)},
            {"instruction": ""},
            {"ended": True},
        )
    ),
    ("test_an_episode_starts_with_a_reading_of_the_declared_shape", ReadsTheFuture(), ()),
    ("test_a_robot_that_stands_may_be_held_and_disconnected_again", RaisesWhereItStands(), ()),
    ("test_any_order_of_observe_apply_and_hold_is_allowed", ClockOfTheEpisode(), ()),
    ("test_an_action_outside_the_contract_is_refused", AppliesAnything(), ()),
    ("test_a_call_lasts_one_control_period", ReturnsAtOnce(), ("apply",)),
    ("test_a_call_lasts_one_control_period", ReturnsAtOnce(), ("hold",)),
    ("test_a_robot_that_cannot_move_does_not", Wanders(can_move=False), ()),
    ("test_a_seed_fixes_a_simulated_scene", Wanders(can_move=True), ()),
    ("test_the_control_loop_runs_an_episode", SeesOtherwise(images={}), ()),
]


class Acts(FakePolicy):
    """A policy that is like any other but for what a subclass changes."""

    def __init__(self) -> None:
        super().__init__([[0.05, 1.0]] * 4)
        self.random = np.random.default_rng(0)

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        chunk = super().act(batch, committed=committed)
        return self.changed(chunk, batch, committed, attention)

    def changed(
        self, chunk: ActionChunk, batch: Sequence[Observation], committed: NDArray[np.float32] | None, attention: bool
    ) -> ActionChunk:
        return chunk


class Unnamed(Acts):
    digest = "my policy"


class TooFar(Acts):
    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        return replace(chunk, actions=chunk.actions * 100)


class OneForAll(Acts):
    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        return replace(chunk, actions=chunk.actions[:1])


class OtherFrame(Acts):
    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        return replace(chunk, frame="camera")


class Unseeded(Acts):
    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        return replace(chunk, actions=(chunk.actions * self.random.random()).astype(np.float32))


class OneSeedForAll(Acts):
    def act(self, batch: Sequence[Observation], *, seed: int | Sequence[int] = 0, **options: Any) -> ActionChunk:
        chunk = super().act(batch, **options)
        first = np.random.default_rng(seed if isinstance(seed, int) else seed[0])
        return replace(chunk, actions=(chunk.actions * first.random()).astype(np.float32))


class SamplesOtherwiseEverAfter(Acts):
    noise = 1.0

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        self.noise = start_noise
        return self

    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        return replace(chunk, actions=(chunk.actions * self.noise).astype(np.float32))


class WritesIntoTheState(Acts):
    def changed(self, chunk: ActionChunk, batch: Sequence[Observation], *_: Any) -> ActionChunk:
        batch[0].state[:] = 1
        return chunk


class StartsAnew(Acts):
    def changed(self, chunk: ActionChunk, *_: Any) -> ActionChunk:
        ramp = np.arange(self.horizon, dtype=np.float32)[:, None] * np.array([0.02, 0], np.float32)
        return replace(chunk, actions=np.stack([ramp] * len(chunk.actions)))


class LooksTooHard(Acts):
    def changed(self, chunk: ActionChunk, batch: Sequence[Observation], _: Any, attention: bool) -> ActionChunk:
        maps = {"head": np.full((len(batch), 2, 4, 4), 7, np.float32)}
        return replace(chunk, attention=maps) if attention else chunk


class ActsOtherwiseWhereWatched(Acts):
    def changed(self, chunk: ActionChunk, _: Any, __: Any, attention: bool) -> ActionChunk:
        return replace(chunk, actions=chunk.actions * np.float32(0.5)) if attention else chunk


ARGUMENTS = {"policy": Acts(), "embodiment": EMBODIMENT, "observation": OBSERVATION}
REFUSED = "test_an_observation_that_does_not_fit_is_refused_by_name"
SHAPE = "test_a_chunk_has_the_declared_shape_and_keeps_the_limits"
POLICIES: list[tuple[str, Acts, Mapping[str, Any]]] = [
    ("test_it_is_known_by_a_digest_and_a_horizon", Unnamed(), {}),
    (SHAPE, TooFar(), {"batch": 1}),
    (SHAPE, OneForAll(), {"batch": 3}),
    (SHAPE, OtherFrame(), {"batch": 1}),
    ("test_the_same_batch_and_seed_give_the_same_actions", Unseeded(), {}),
    ("test_each_row_of_a_batch_may_have_a_seed_of_its_own", OneSeedForAll(), {}),
    ("test_another_way_of_sampling_leaves_the_policy_as_it_is", SamplesOtherwiseEverAfter(), {}),
    ("test_what_it_sees_is_not_changed", WritesIntoTheState(), {}),
    ("test_actions_that_are_being_executed_are_the_chunk_s_beginning", StartsAnew(), {}),
    ("test_attention_is_given_where_there_is_one", LooksTooHard(), {}),
    ("test_attention_is_given_where_there_is_one", ActsOtherwiseWhereWatched(), {}),
    (REFUSED, Acts(), {"part": "images", "fault": "a camera is missing"}),
    (REFUSED, Acts(), {"part": "state", "fault": "not a number"}),
]


class HasEverything(DirectoryObjects):
    def exists(self, path: str) -> bool:
        return True


class KeepsTheOlder(DirectoryObjects):
    def put(self, path: str, data: bytes) -> None:
        if not self.exists(path):
            super().put(path, data)


class ReadsAtOnce(DirectoryObjects):
    def read(self, path: str) -> Iterator[bytes] | None:
        pieces = super().read(path)
        return None if pieces is None else iter([b"".join(pieces)])


class ListsFolders(DirectoryObjects):
    def list(self, prefix: str = "") -> list[str]:
        folder = prefix.rpartition("/")[0]
        return super().list(f"{folder}/" if folder else "")


class RemovesNeighbours(DirectoryObjects):
    def remove(self, prefix: str) -> None:
        for path in self.list(prefix.rstrip("/")):
            self.delete(path)


class LeavesAHalf(DirectoryObjects):
    def fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        super().fetch(path, target)


class SharesBytes(DirectoryObjects):
    def put_copy(self, path: str, source: Path) -> None:
        self.put_file(path, source)


class PointsElsewhere(DirectoryObjects):
    def place(self, path: str) -> Path:
        return super().place(f"{path}.bin")


STORES: list[tuple[str, type[DirectoryObjects], bool]] = [
    ("test_an_empty_store_has_nothing", HasEverything, False),
    ("test_what_was_put_is_there_and_replaced_as_a_whole", KeepsTheOlder, False),
    ("test_a_large_object_is_read_in_pieces", ReadsAtOnce, False),
    ("test_a_listing_is_sorted_and_begins_with_the_prefix", ListsFolders, False),
    ("test_one_object_is_deleted_and_a_folder_removed", RemovesNeighbours, False),
    ("test_a_file_goes_in_and_comes_out", LeavesAHalf, True),
    ("test_a_copy_has_bytes_of_its_own", SharesBytes, True),
    ("test_a_place_is_where_the_object_lies", PointsElsewhere, False),
]


@pytest.mark.parametrize(("test", "robot", "arguments"), ROBOTS)
def test_a_broken_driver_fails(test: str, robot: FakeRobot, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(FAILED):
        getattr(RobotContract(), test)(robot, *arguments)


@pytest.mark.parametrize(("test", "policy", "arguments"), POLICIES)
def test_a_broken_policy_fails(test: str, policy: Acts, arguments: Mapping[str, Any]) -> None:
    suite = getattr(PolicyContract, test)
    given = ARGUMENTS | {"policy": policy, "observation": replace(OBSERVATION, state=OBSERVATION.state.copy())}
    wanted = {name: value for name, value in given.items() if name in suite.__code__.co_varnames}
    with pytest.raises(FAILED):
        suite(PolicyContract(), **wanted, **arguments)


@pytest.mark.parametrize(("test", "store", "files"), STORES)
def test_a_broken_store_fails(test: str, store: type[DirectoryObjects], files: bool, tmp_path: Path) -> None:
    arguments = (store(tmp_path / "store"), tmp_path) if files else (store(tmp_path / "store"),)
    with pytest.raises(FAILED):
        getattr(ObjectsContract(), test)(*arguments)


@pytest.mark.parametrize(
    ("suite", "cases"), [(RobotContract, ROBOTS), (PolicyContract, POLICIES), (ObjectsContract, STORES)]
)
def test_no_test_of_a_suite_is_one_that_cannot_fail(suite: type, cases: Sequence[tuple[Any, ...]]) -> None:
    assert {name for name in vars(suite) if name.startswith("test_")} == {test for test, *_ in cases}
