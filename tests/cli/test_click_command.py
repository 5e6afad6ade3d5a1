"""`posa data calibrate --clicks FILE`, as a script types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clicked_arms import ENDS, recorded_arms
from clicked_bench import EMBODIMENT, HEIGHT, WIDTH, Bench, recorded_bench

from posa_vla.cli.main import main
from posa_vla.episodes.calibration import load_calibration

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return recorded_bench(tmp_path_factory.mktemp("bench") / "dataset")


@pytest.fixture
def posa(capfd, monkeypatch, tmp_path, bench):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(tmp_path / ".posa"))
    # Standard output is reserved once a process, and captured anew for each test.
    monkeypatch.setattr("posa_vla.console._reserved", None)

    def run(
        clicks: object, *arguments: str, dataset: tuple[str, ...] = (str(bench.folder), "--embodiment", EMBODIMENT)
    ) -> tuple[int, dict, str]:
        Path("clicks.json").write_text(json.dumps(clicks), encoding="utf-8")
        given = ["calibrate", *dataset, "--clicks", "clicks.json", *arguments]
        with pytest.raises(SystemExit) as stop:
            main(["data", *given, "--out", "cal.yaml", "--json"])
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), json.loads(out) if out else {}, err

    return run


def true_clicks(bench: Bench, role: str, count: int, of: str = "tip") -> list[dict]:
    frames = [(number, frame) for number, episode in enumerate(bench.truth) for frame in range(0, len(episode), 3)]
    # A place is seen from afar, before the gripper has closed.
    if of == "place":
        frames = [(number, frame) for number in range(len(bench.truth)) for frame in range(5)]
    shown = [frame for frame in frames if bench.shows(role, frame, of)]
    clicks = []
    for number, frame in shown[:: max(1, len(shown) // count)][:count]:
        u, v = bench.pixel(role, (number, frame), of)
        clicks.append({"role": role, "episode": number, "frame": frame, "u": u, "v": v, "of": of})
    return clicks


def test_clicks_give_cameras_and_those_that_were_there_stay(posa, bench, tmp_path) -> None:
    head = true_clicks(bench, "head", 10)
    head[2] = {**head[2], "u": (head[2]["u"] + WIDTH / 2) % WIDTH}
    code, result, err = posa({"clicks": head})
    assert code == 0, err
    (camera,) = result["cameras"]
    assert (camera["role"], camera["events"], camera["usable"]) == ("head", 10, True)
    assert f"click 3 (episode {head[2]['episode']}, frame {head[2]['frame']}) is " in err
    code, _, err = posa({"clicks": true_clicks(bench, "wrist", 1)})
    assert code == 0, err
    cameras = load_calibration(tmp_path / "cal.yaml", ["head", "wrist"]).cameras
    assert cameras["head"].base_from_camera is not None
    assert cameras["wrist"].end_effector_pixel is not None
    both = true_clicks(bench, "wrist", 1) + true_clicks(bench, "wrist", 9, "place")
    code, _, err = posa({"clicks": both})
    assert code == 0, err
    cameras = load_calibration(tmp_path / "cal.yaml", ["head", "wrist"]).cameras
    assert cameras["wrist"].end_effector_from_camera is not None


@pytest.mark.long
def test_clicks_of_two_arms_say_whose_they_are(posa, tmp_path) -> None:
    arms = recorded_arms(tmp_path / "dataset")
    dataset, role = (str(arms.folder), "--arm", "aloha"), "cam_left_wrist"
    clicks = []
    for number in range(10):
        (u, v), end = arms.pixel("head", (number % 3, 2 * number), number % 2), ENDS[number % 2]
        line = {"role": "head", "episode": number % 3, "frame": 2 * number, "u": u, "v": v}
        clicks.append({**line, "end_effector": end})
    u, v = arms.pixel(role, (0, 0), 0)
    wrist = {"role": role, "episode": 0, "frame": 0, "u": u, "v": v, "end_effector": "left"}
    code, result, err = posa({"clicks": [*clicks, wrist], "on_hand": [role]}, dataset=dataset)
    assert code == 0, err
    assert [(camera["role"], camera["usable"]) for camera in result["cameras"]] == [("head", True), (role, True)]
    cameras = load_calibration(tmp_path / "cal.yaml", ["head", role], ENDS).cameras
    assert cameras["head"].base_from_camera is not None
    assert (cameras[role].end_effector, cameras[role].end_effector_pixel is not None) == ("left", True)
    code, _, err = posa(
        {"clicks": [{**wrist, "frame": 1, "end_effector": "right"}, wrist], "on_hand": [role]}, dataset=dataset
    )
    assert code == 2
    assert "has clicks of left and right: expected those of the one it is on" in err
    code, _, err = posa({"clicks": [line]}, dataset=dataset)
    assert code == 2
    assert "nothing says whose gripper it is: add end_effector, one of left, right" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "hed"}, "camera 'hed' is none of the dataset's; did you mean 'head'?"),
        ({"episode": 99}, "there is no episode 99; the dataset's are 0 to "),
        ({"frame": 9999}, "there is none 9999"),
        ({"u": WIDTH + 1}, f"is beside the picture of camera head, which is {WIDTH} x {HEIGHT}"),
        ({"of": "place"}, "clicks on places are for a camera on the hand"),
        ({"colour": "red"}, "unknown key clicks.0.colour"),
    ],
)
def test_a_click_that_does_not_fit_is_one_message_and_exit_code_2(posa, bench, tmp_path, change, message) -> None:
    code, _, err = posa({"clicks": [{**true_clicks(bench, "head", 1)[0], **change}]})
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "cal.yaml").exists()


def test_a_camera_to_be_clicked_that_there_is_not_is_one_message(capfd, monkeypatch, tmp_path, bench) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSA_HOME", str(tmp_path / ".posa"))
    for option in ("--click", "--on-hand"):
        with pytest.raises(SystemExit) as stop:
            main(
                ["data", "calibrate", str(bench.folder), "--embodiment", EMBODIMENT, "--out", "c.yaml", option, "wris"]
            )
        assert stop.value.code == 2
        assert "camera 'wris' is none of the dataset's; did you mean 'wrist'?" in capfd.readouterr().err


def test_too_few_clicks_no_clicks_and_both_ways_at_once_are_exit_code_2(posa, bench) -> None:
    code, result, err = posa({"clicks": true_clicks(bench, "head", 4)})
    assert (code, result["file"]) == (2, None)
    assert "click in 2 more frames" in err
    assert "holds no click" in posa({"clicks": []})[2]
    assert "leave --click and --on-hand out" in posa({"clicks": []}, "--click", "head")[2]
