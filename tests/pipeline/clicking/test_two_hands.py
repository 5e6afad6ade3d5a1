"""Two arms: each click says whose tip it is, all of them give one camera, and who took the wrong arm is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clicked_arms import ENDS, HEIGHT, WIDTH, Arms, recorded_arms

from posa_vla.dataset.calibration.clicks_file import Click, Clicks, ClicksKept, read_clicks
from posa_vla.dataset.calibration.frames import places, tips
from posa_vla.episodes.calibration import CameraCalibration
from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput
from posa_vla.geometry import project
from posa_vla.pipeline.clicked import hand_of
from posa_vla.pipeline.clicking.filmed import Filmed
from posa_vla.pipeline.clicking.judged import fixed_camera, mounted_camera
from posa_vla.pipeline.clicking.session import Action, Clicking
from posa_vla.pipeline.clicking.task import Task, require_place
from posa_vla.pipeline.ingestion import Dataset, open_reader

WRIST = "cam_left_wrist"


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    return recorded_arms(tmp_path_factory.mktemp("arms") / "dataset")


@pytest.fixture(scope="module")
def both(arms: Arms, tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    folder = tmp_path_factory.mktemp("store")
    dataset = Dataset(str(arms.folder), folder, arm="aloha")
    return Filmed(open_reader(open_source(arms.folder), dataset, EpisodeStore(folder))[0])


def noisy(pixel: tuple[float, float], seed: int) -> tuple[float, float]:
    """A click with 3 px of noise."""
    u, v = np.clip(pixel + np.random.default_rng(seed).normal(0, 3, 2), 0, (WIDTH, HEIGHT)).tolist()
    return u, v


def test_clicks_of_both_arms_give_one_camera_and_the_wrong_arm_is_named(
    both: Filmed, arms: Arms, tmp_path: Path
) -> None:
    kept = ClicksKept(tmp_path / "cal.clicks.json", "dataset", [])
    found: list[CameraCalibration] = []
    head = Task(both, "head", "tip", False, kept)

    def keep(task: Task) -> None:
        assert task.result is not None
        assert task.result.calibration is not None
        found.append(task.result.calibration)

    clicking = Clicking(both, [head], keep)
    asked = [told["end_effector"] for told in clicking.state()["frames"]]
    # One gripper after the other, and enough of both.
    assert asked == sorted(asked)
    assert min(asked.count(end) for end in ENDS) >= 3
    off, other = 2, 8
    for number, told in enumerate(clicking.state()["frames"]):
        end = ENDS.index(told["end_effector"])
        assert told["end"] == end
        u, v = noisy(arms.pixel("head", told["frame"], 1 - end if number == other else end), number)
        state = clicking.do(Action(step=0, do="click", number=number, u=u + 80 * (number == off), v=v))
    assert state["phase"] == "judge"
    assert state["result"]["accepted"], state["result"]["reasons"]
    assert [number for number, told in enumerate(state["frames"]) if told["rejected"]] == [off, other]
    assert state["result"]["doubts"] == []
    remarks = state["result"]["remarks"]
    episode, frame = state["frames"][other]["frame"]
    assert any(said.startswith(f"click 9 (episode {episode}, frame {frame}, right) is ") for said in remarks)
    assert "click 9 is where the tip of left is: right was asked for" in remarks
    assert not any(said.startswith("click 3 is where") for said in remarks)
    clicking.do(Action(step=0, do="accept"))
    (camera,) = found
    assert camera.intrinsics is not None
    assert camera.base_from_camera is not None
    where = np.array([camera.intrinsics.fx, camera.intrinsics.fy, camera.intrinsics.cx, camera.intrinsics.cy])
    truth = [(number, k, end) for number, poses in enumerate(arms.poses) for k in range(len(poses)) for end in (0, 1)]
    points = np.array([arms.poses[number][k, end, :3] for number, k, end in truth])
    seen = project(points, where, camera.base_from_camera.array(), WIDTH, HEIGHT).pixels
    expected = np.array([arms.pixel("head", (number, k), end) for number, k, end in truth])
    assert np.median(np.linalg.norm(seen - expected, axis=1)) < 0.01 * WIDTH
    written = read_clicks(kept.path)
    assert written.schema_version == 2
    assert [click.end_effector for click in written.clicks] == asked
    assert Task(both, "head", "tip", False, ClicksKept(kept.path, "dataset", [])).clicks == head.clicks


def test_who_takes_left_for_right_in_every_picture_is_told(both: Filmed, arms: Arms) -> None:
    spots = sorted(tips(both.motions).spread(10), key=lambda spot: spot.end)
    clicks = {spot: noisy(arms.pixel("head", spot[:2], 1 - spot.end), spot.frame) for spot in spots}
    judged = fixed_camera(both, "head", clicks)
    assert judged.calibration is None
    assert judged.reasons[-1].startswith("the clicks would fit one camera with left and right the other way round")


def test_a_camera_on_a_hand_is_found_on_that_hand(both: Filmed, arms: Arms, tmp_path: Path) -> None:
    kept = ClicksKept(tmp_path / "cal.clicks.json", "dataset", [WRIST])
    tip = Task(both, WRIST, "tip", True, kept, 0)
    assert [spot.end for spot in tip.frames] == [0]
    tip.click(0, arms.pixel(WRIST, tip.frames[0][:2], 0))
    judged = tip.judge()
    assert judged.calibration is not None
    assert judged.calibration.end_effector == "left"
    assert judged.calibration.end_effector_pixel is not None
    with pytest.raises(BadInput, match=f"holds clicks of camera {WRIST} on the hand left, and now it is on right"):
        Task(both, WRIST, "tip", True, kept, 1)

    spots = [spot for spot in places(both.motions, 0).spread(36) if arms.shows(WRIST, spot[:2], 0, "place")][:10]
    clicks = {spot: noisy(arms.pixel(WRIST, spot[:2], 0, "place"), spot.frame) for spot in spots}
    mounted = mounted_camera(both, WRIST, clicks, tip.tip(), 0)
    assert mounted.reasons == []
    assert mounted.calibration is not None
    assert mounted.calibration.end_effector == "left"
    assert mounted.calibration.end_effector_from_camera is not None
    wrong = mounted_camera(both, WRIST, clicks, tip.tip(), 1)
    assert wrong.calibration is None
    assert wrong.reasons[-1] == f"the clicks would fit a camera on left: --on-hand {WRIST}=left"


def test_which_hand_a_camera_is_on_is_said_or_shows_in_its_name() -> None:
    assert hand_of(WRIST, "", ENDS) == 0
    assert hand_of("wrist-right", "", ENDS) == 1
    assert hand_of(WRIST, "right", ENDS) == 1
    assert hand_of("wrist", "", ()) == 0
    for role, said, ends, message in (
        ("wrist", "", ENDS, "nothing says whether on left or right: add --on-hand wrist=left"),
        ("left_of_right", "", ENDS, "nothing says whether"),
        (WRIST, "lef", ENDS, "no end effector 'lef'; did you mean 'left'"),
        ("wrist", "left", (), "the robot has one: leave it out"),
    ):
        with pytest.raises(BadInput, match=message):
            hand_of(role, said, ends)


def test_a_click_says_whose_it_is_of_two_and_does_not_of_one(both: Filmed, filmed: Filmed) -> None:
    line = {"role": "head", "episode": 0, "frame": 3, "u": 9.0, "v": 9.0}
    require_place(both, Click(**line, end_effector="right"))
    for known, name, message in (
        (both, None, "nothing says whose gripper it is: add end_effector, one of left, right"),
        (both, "rihgt", "no end effector 'rihgt'; did you mean 'right'"),
        (filmed, "left", "of a robot that has one, expected none"),
    ):
        with pytest.raises(BadInput, match=message):
            require_place(known, Click(**line, end_effector=name))
    late = {**line, "of": "place", "frame": 15}
    require_place(both, Click(**late, end_effector="right"))
    with pytest.raises(BadInput, match="the gripper left neither closes nor opens after frame 15"):
        require_place(both, Click(**late, end_effector="left"))
    two = [{**line, "end_effector": end} for end in ENDS]
    assert len(Clicks.model_validate({"clicks": two}).clicks) == 2
    with pytest.raises(ValueError, match="has 2 clicks on the tip of left, expected one"):
        Clicks.model_validate({"clicks": [two[0], two[0]]})
