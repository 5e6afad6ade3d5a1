"""A person's clicks: kept at once, taken back, judged; and what comes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clicked_bench import HEIGHT, WIDTH, Bench

from posa_vla.dataset.calibration.clicks_file import ClicksKept, read_clicks
from posa_vla.episodes.calibration import CameraCalibration
from posa_vla.errors import BadInput
from posa_vla.geometry import project
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.clicking.session import Action, Clicking
from posa_vla.pipeline.clicking.task import Task


@pytest.fixture
def kept(tmp_path: Path) -> ClicksKept:
    return ClicksKept(tmp_path / "cal.clicks.json", "dataset", [])


@pytest.fixture
def session(filmed: Filmed, kept: ClicksKept) -> tuple[Clicking, dict[str, CameraCalibration]]:
    tasks = [
        Task(filmed, "head", "tip", False, kept),
        Task(filmed, "wrist", "tip", True, kept),
        Task(filmed, "wrist", "place", True, kept),
    ]
    found: dict[str, CameraCalibration] = {}

    def accepted(task: Task) -> None:
        assert task.result is not None
        assert task.result.calibration is not None
        found[task.role] = task.result.calibration

    return Clicking(filmed, tasks, accepted), found


def click_all(clicking: Clicking, bench: Bench, wrong: int = -1) -> dict:
    """Clicks in every frame, skips where nothing is to be seen; returns the last state."""
    draw, state, at = np.random.default_rng(0), clicking.state(), 0
    for _ in range(40):
        if state["phase"] != "click":
            return state
        frame = tuple(state["frames"][at]["frame"])
        if bench.shows(state["role"], frame, state["target"]):
            u, v = np.array(bench.pixel(state["role"], frame, state["target"])) + draw.normal(0, 0.5, 2)
            if at == wrong:
                u, v = (u + WIDTH / 2) % WIDTH, v
            u, v = min(max(u, 0), WIDTH), min(max(v, 0), HEIGHT)
            state = clicking.do(Action(step=state["step"], do="click", number=at, u=u, v=v))
        else:
            state = clicking.do(Action(step=state["step"], do="skip", number=at))
        at = state["at"]
    raise AssertionError("the clicks are never judged")


def test_a_fixed_camera_and_one_on_the_hand_are_found(session, bench: Bench, filmed: Filmed) -> None:
    clicking, found = session
    state = click_all(clicking, bench, wrong=3)
    assert state["phase"] == "judge"
    assert state["result"]["accepted"]
    assert [told["rejected"] for told in state["frames"]].index(True) == 3
    assert any(said.startswith("click 4 (episode ") for said in state["result"]["remarks"])
    for told in state["result"]["others"]:
        if told["seen"] is not None:
            assert np.hypot(*np.subtract(told["seen"], bench.pixel("head", tuple(told["frame"])))) < 0.02 * WIDTH
    clicking.do(Action(step=0, do="accept"))
    head = found["head"]
    assert head.found is not None
    assert (head.found.how, head.found.events, head.found.used) == ("clicked", 10, 9)
    assert head.base_from_camera is not None
    assert head.intrinsics is not None
    points, where = filmed.reach(), [head.intrinsics.fx, head.intrinsics.fy, head.intrinsics.cx, head.intrinsics.cy]
    true = bench.truth[0].cameras["head"]
    assert true.intrinsics is not None
    assert true.pose is not None
    seen = project(points, np.array(where), head.base_from_camera.array(), WIDTH, HEIGHT)
    expected = project(points, true.intrinsics[0], true.pose[0], WIDTH, HEIGHT)
    assert np.median(np.linalg.norm(seen.pixels - expected.pixels, axis=1)[expected.visible]) < 0.01 * WIDTH

    assert click_all(clicking, bench)["result"]["accepted"]
    clicking.do(Action(step=1, do="accept"))
    tip = found["wrist"].end_effector_pixel
    assert tip is not None
    assert np.hypot(*np.subtract((tip.u, tip.v), bench.pixel("wrist", (0, 0)))) < 3

    state = click_all(clicking, bench)
    assert state["result"]["accepted"], state["result"]["reasons"]
    assert not clicking.over.is_set()
    assert clicking.do(Action(step=2, do="accept"))["phase"] == "done"
    clicking.end_if_over()
    assert clicking.over.is_set()
    mounted = found["wrist"]
    assert mounted.end_effector_pixel is None
    assert mounted.end_effector_from_camera is not None
    errors = [
        np.hypot(*np.subtract(told["seen"], bench.pixel("wrist", tuple(told["frame"]), "place")))
        for told in state["result"]["others"]
        if told["seen"] is not None and bench.shows("wrist", tuple(told["frame"]), "place")
    ]
    assert np.median(errors) < 0.02 * WIDTH


def test_every_click_is_kept_and_a_new_start_goes_on(filmed: Filmed, kept: ClicksKept) -> None:
    task = Task(filmed, "head", "tip", False, kept)
    assert len(task.frames) == 10
    first, hidden, second = task.frames[0], task.frames[1], task.frames[2]
    task.click(0, (10.0, 11.0))
    assert len(read_clicks(kept.path).clicks) == 1
    task.skip(1)
    assert task.frames[1] not in (hidden, first)
    task.click(2, (20.0, 21.0))
    task.click(0, (12.0, 13.0))
    again = Task(filmed, "head", "tip", False, ClicksKept(kept.path, "dataset", []))
    assert again.clicks == {first: (12.0, 13.0), second: (20.0, 21.0)}
    assert again.skipped == [hidden]
    assert len(again.frames) == 10
    assert hidden not in again.frames


def test_clicks_moves_and_skips_are_undone_one_by_one(filmed: Filmed, kept: ClicksKept) -> None:
    task = Task(filmed, "head", "tip", False, kept)
    frames = list(task.frames)
    task.click(0, (10.0, 11.0))
    task.click(0, (12.0, 13.0))
    task.skip(0)
    instead = task.frames[0]
    task.click(0, (1.0, 1.0))
    assert task.undo() == 0
    assert instead not in task.clicks
    assert task.undo() == 0
    assert task.frames == frames
    assert task.clicks == {frames[0]: (12.0, 13.0)}
    task.undo()
    assert task.clicks == {frames[0]: (10.0, 11.0)}
    task.undo()
    task.undo()
    assert task.clicks == {}
    assert read_clicks(kept.path).skipped == []


def test_too_few_clicks_are_refused_and_cannot_be_accepted(session) -> None:
    clicking, found = session
    clicking.do(Action(step=0, do="click", number=0, u=10, v=10))
    state = clicking.do(Action(step=0, do="judge"))
    assert state["result"]["reasons"] == ["1 click, 6 are needed at least: click in 5 more frames"]
    with pytest.raises(BadInput, match="no result to accept"):
        clicking.do(Action(step=0, do="accept"))
    assert clicking.do(Action(step=0, do="again"))["at"] == 1
    assert len(clicking.do(Action(step=0, do="more"))["frames"]) == 15
    assert found == {}


def test_what_an_old_page_asks_for_is_refused(session) -> None:
    clicking, _ = session
    clicking.do(Action(step=0, do="leave"))
    for action in (Action(step=0, do="skip"), Action(step=1, do="click", number=99, u=1, v=1)):
        with pytest.raises(BadInput):
            clicking.do(action)
    with pytest.raises(BadInput, match="beside the picture of camera wrist, which is 160 x 120"):
        clicking.do(Action(step=1, do="click", number=0, u=1, v=500))
    with pytest.raises(BadInput, match="no such picture"):
        clicking.picture(0, (0, 10**6))


def test_clicks_on_the_tip_that_are_apart_are_no_camera_on_the_hand(filmed: Filmed, kept: ClicksKept) -> None:
    task = Task(filmed, "wrist", "tip", True, kept)
    task.more()
    task.click(0, (80.0, 60.0))
    task.click(1, (20.0, 60.0))
    judged = task.judge()
    assert judged.calibration is None
    assert "sees it in one place" in judged.reasons[0]


def test_who_clicks_on_another_part_of_the_hand_in_every_picture_is_asked(
    filmed: Filmed, bench: Bench, kept: ClicksKept
) -> None:
    # The bench's hand hangs down: what is 8 cm above the tip in all pictures is a camera that is shifted.
    def clicked_at(above: float) -> list[str]:
        task = Task(filmed, "head", "tip", False, kept)
        true = bench.truth[0].cameras["head"]
        assert true.intrinsics is not None
        assert true.pose is not None
        for number, spot in enumerate(task.frames):
            point = filmed.tip(spot) + np.array([0, 0, above])
            u, v = project(point, true.intrinsics[0], true.pose[0], WIDTH, HEIGHT).pixels
            task.click(number, (min(max(u, 0), WIDTH), min(max(v, 0), HEIGHT)))
        judged = task.judge()
        assert judged.reasons == []
        return judged.doubts

    assert clicked_at(0.0) == []
    (doubt,) = clicked_at(0.08)
    assert "was the point between the finger tips clicked" in doubt
