from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from factories import make_embodiment
from numpy.typing import NDArray
from PIL import Image

from posa_vla.errors import BadInput
from posa_vla.evaluation.local import evaluate
from posa_vla.evaluation.pictures import overlay
from posa_vla.evaluation.rollout import run_episode, run_episodes
from posa_vla.evidence.suite import Suite
from posa_vla.evidence.summary import Summary
from posa_vla.params import EvaluateParams
from posa_vla.policy.execution import Execution
from posa_vla.policy.policy import ActionChunk, Observation
from posa_vla.schema import parse

PARAMS = EvaluateParams(episodes=6, max_steps=8, execute=3, videos=2)


class Line:
    """The end effector moves along a line by the action; beyond 0.55 m the task is done; odd scenes start further."""

    def __init__(self, seeds: list[int] | None = None) -> None:
        self.seeds = [] if seeds is None else seeds
        self.closed = False

    def _look(self) -> dict[str, Any]:
        image = np.full((16, 16, 3), 100, np.uint8)
        return {"images": {"head": image}, "state": np.array([self.x], np.float32)}

    def _info(self) -> dict[str, Any]:
        pose = np.array([self.x, 0, 0, 1, 0, 0, 0])
        return {"instruction": "pick up the red cube", "end_effector": pose, "success": self.x > 0.55}

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seeds.append(seed)
        self.x, self.steps = (-1.0 if seed % 2 else 0.0), 0
        return self._look(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        self.steps += 1
        info = self._info()
        return self._look(), 0.0, info["success"], self.steps >= PARAMS.max_steps, info

    def close(self) -> None:
        self.closed = True


class Scripted:
    """Always the same chunk."""

    def __init__(self, value: float = 0.1, digest: str = "a" * 64) -> None:
        self.digest = digest
        self.embodiment = make_embodiment()
        self.calls: list[int] = []
        self.batches: list[int] = []
        self._value = value

    flow_steps = 6

    def with_flow(self, steps: int | None, start_noise: float) -> Self:
        self.flow = (steps, start_noise)
        return self

    @property
    def horizon(self) -> int:
        return 5

    def act(
        self,
        batch: Sequence[Observation],
        *,
        committed: NDArray[np.float32] | None = None,
        seed: int | Sequence[int] = 0,
        attention: bool = False,
    ) -> ActionChunk:
        self.calls.extend([seed] if isinstance(seed, int) else seed)
        self.batches.append(len(batch))
        actions = np.full((len(batch), 5, 2), self._value, np.float32)
        maps = {"head": np.ones((len(batch), 2, 4, 4), np.float32)} if attention else None
        return ActionChunk(actions, "base", maps)


def suite_of(seeds: Sequence[int], params: EvaluateParams) -> Suite:
    return Suite(embodiment="arm", task="pick", seeds=list(seeds), params=params, image_size=16)


def run(policy: Scripted, out: Path, environment: Line | None = None, seeds: Sequence[int] = range(6)) -> Any:
    first = [environment] if environment else []
    met = environment.seeds if environment else None
    return evaluate(policy, suite_of(seeds, PARAMS), out, make=lambda suite: first.pop() if first else Line(met))


def test_an_episode_counts_steps_and_metres() -> None:
    policy = Scripted()
    rollout = run_episode(policy, Line(), 2, PARAMS)
    assert (rollout.row.success, rollout.row.steps) == (True, 6)
    assert rollout.row.path_length == pytest.approx(0.6)
    assert len(policy.calls) == 2  # it looks again after three of five actions
    assert len(set(policy.calls)) == 2
    assert rollout.images == {}
    failed = run_episode(policy, Line(), 3, PARAMS)
    assert (failed.row.success, failed.row.steps, failed.row.return_code) == (False, 8, "ok")


def test_an_action_that_is_no_number_is_no_outcome(tmp_path: Path) -> None:
    row = run_episode(Scripted(float("nan")), Line(), 2, PARAMS).row
    assert (row.success, row.return_code) == (False, "nan-action")
    evidence = run(Scripted(float("nan")), tmp_path)
    assert not evidence.complete()
    assert Summary.of(evidence).success_rate is None


def test_evidence_holds_every_planned_episode_in_order(tmp_path: Path) -> None:
    evidence = run(Scripted(), tmp_path)
    assert evidence.complete()
    assert [row.scene_seed for row in evidence.rows] == list(range(6))
    figures = Summary.of(evidence)
    assert figures.success_rate == 0.5
    assert figures.ci_low < 0.5 < figures.ci_high
    assert figures.mean_steps == 6
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == PARAMS.videos
    assert len(list((tmp_path / "overlays").glob("*.png"))) == PARAMS.videos


class _Killed(BaseException):
    pass


@pytest.mark.fault
def test_a_killed_evaluation_runs_no_scene_twice(tmp_path: Path) -> None:
    first = Line()
    step = first.step

    def deadly(action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if first.steps == 6:
            raise _Killed
        return step(action)

    first.step = deadly  # type: ignore[method-assign]  # the fault
    with pytest.raises(_Killed):
        run(Scripted(), tmp_path, first, [1, 0, 2, 3])
    second = Line()
    evidence = run(Scripted(), tmp_path, second, [1, 0, 2, 3])
    assert second.seeds == [1, 3], "the even scenes had ended after six steps"
    assert evidence == run(Scripted(), tmp_path / "whole", None, [1, 0, 2, 3])


def test_the_policy_is_asked_once_for_all_scenes_under_way() -> None:
    alone, together = Scripted(), Scripted()
    seeds = range(5)
    one = [run_episode(alone, Line(), seed, PARAMS).row for seed in seeds]
    environments = [Line() for _ in range(3)]
    several = [rollout.row for rollout in run_episodes(together, environments, seeds, PARAMS)]
    assert sorted(several, key=lambda row: row.scene_seed) == one
    assert sorted(together.calls) == sorted(alone.calls)
    assert max(together.batches) == 3
    assert len(together.batches) < len(alone.batches)


class Failing(Scripted):
    """Raises, or gives chunks of another length, once it has been asked about a scene whose state says so."""

    def __init__(self, fails: Callable[[Observation], bool], length: int = 0) -> None:
        super().__init__()
        self._fails, self._length = fails, length

    def act(self, batch: Sequence[Observation], **how: Any) -> ActionChunk:
        chunk = super().act(batch, **how)
        if any(self._fails(seen) for seen in batch):
            if not self._length:
                raise RuntimeError("no gripper in sight")
            return ActionChunk(chunk.actions[:, : self._length], chunk.frame)
        return chunk


def test_a_policy_that_raises_loses_the_episodes_that_it_raises_in(capsys: pytest.CaptureFixture[str]) -> None:
    environments = [Line() for _ in range(3)]
    odd_ones = Failing(lambda seen: bool(seen.state[0] < -0.9))
    rows = [rollout.row for rollout in run_episodes(odd_ones, environments, range(4), PARAMS)]
    found = {row.scene_seed: (row.return_code, row.success) for row in rows}
    assert found == {n: ("policy-error", False) if n % 2 else ("ok", True) for n in range(4)}
    assert "raised RuntimeError: no gripper in sight; the episode is lost" in capsys.readouterr().err
    refused = Scripted()
    refused.act = refuse  # type: ignore[method-assign, assignment]  # a policy that cannot be asked at all
    with pytest.raises(BadInput, match="camera 'wrist' is missing"):
        list(run_episodes(refused, environments, range(4), PARAMS))


def refuse(batch: Sequence[Observation], **how: Any) -> ActionChunk:
    raise BadInput("camera 'wrist' is missing")


def test_chunks_of_another_length_lose_their_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    policy = Failing(lambda seen: True, length=2)
    assert run_episode(policy, Line(), 2, PARAMS).row.return_code == "wrong-shape"
    assert "gave 1 chunks of 2 actions, expected 1 of 5" in capsys.readouterr().err


def test_rows_of_another_policy_or_of_other_conditions_never_count(tmp_path: Path) -> None:
    run(Scripted(), tmp_path)
    other = Line()
    run(Scripted(digest="b" * 64), tmp_path, other)
    assert other.seeds == list(range(6))
    blank = Line()
    suite = suite_of(range(6), PARAMS.model_copy(update={"objects": PARAMS.objects + 1}))
    evaluate(Scripted(), suite, tmp_path, make=lambda suite: blank)
    assert sorted(set(blank.seeds)) == list(range(6))


def test_an_evaluation_on_more_scenes_goes_on(tmp_path: Path) -> None:
    run(Scripted(), tmp_path)
    longer = Line()
    evidence = run(Scripted(), tmp_path, longer, range(7))
    assert longer.seeds == [6]
    assert evidence == run(Scripted(), tmp_path / "whole", None, range(7))


def test_the_overlay_paints_each_channel_in_its_colour() -> None:
    grey = np.full((64, 64, 3), 120, np.uint8)
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, 1, 1], maps[1, 6, 6] = 1, 1
    painted = overlay(grey, maps).astype(int)
    assert painted[12, 12, 0] > painted[12, 12, 2] + 60  # orange
    assert painted[52, 52, 2] > painted[52, 52, 0] + 60  # cyan
    np.testing.assert_array_equal(painted[52, 10], [66, 66, 66])


def test_a_video_can_be_read_back(tmp_path: Path) -> None:
    import av

    run(Scripted(), tmp_path)
    path = sorted((tmp_path / "videos").glob("solved-*.mp4"))[0]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 6
    sheet = Image.open(next((tmp_path / "overlays").glob("solved-*.png")))
    assert sheet.width > sheet.height


def test_the_suite_says_what_fixes_the_conditions() -> None:
    suite = suite_of([1, 2], PARAMS)
    assert suite.describe() != suite_of([1, 3], PARAMS).describe()
    assert suite.describe()["max_steps"] == PARAMS.max_steps
    assert "wording" not in suite.describe(), "evidence of before keeps its rows"
    assert suite_of([1, 2], PARAMS.model_copy(update={"wording": "distracted"})).describe()["wording"] == "distracted"


def test_evidence_says_how_the_policy_was_run_and_it_was_run_so(tmp_path: Path) -> None:
    def told(policy: Scripted, **changes: Any) -> Execution:
        params = PARAMS.model_copy(update={**changes, "videos": 0})
        suite = suite_of([2], params)
        said = evaluate(policy, suite, tmp_path, make=lambda suite: Line()).suite
        return parse(Execution, {name: said[name] for name in Execution.model_fields}, "suite")

    policy = Scripted()
    assert told(policy) == Execution(execute=3, max_steps=8, flow_steps=6)
    assert policy.flow == (6, 1.0)
    assert told(policy, flow_steps=2, start_noise=0.5).flow_steps == 2
    assert policy.flow == (2, 0.5)
