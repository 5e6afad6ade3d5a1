"""docs/your-recordings.md to the letter: from joints and video alone to labelled training data, and what is refused."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posa_vla.cli.main import main
from posa_vla.dataset.labels import anchor_labels, gripper_events
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.foreign.arms import copy_chain
from posa_vla.episodes.kinematics import ForwardKinematics
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.files import write_json
from posa_vla.geometry import project
from posa_vla.sim.environment import make_environment
from posa_vla.sim.recordings import record
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "your-recordings.md"
SIDE = 256


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Episode]]:
    folder = tmp_path_factory.mktemp("recordings") / "dataset"
    with closing(make_environment("so101_bench", "pick_place", image_size=SIDE, objects=2, max_steps=80)) as world:
        return folder, record(folder, world, range(16), robot="so101_follower")


@pytest.fixture
def posa(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSA_HOME", raising=False)

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        # Standard output is reserved once a process, and captured anew for each test.
        monkeypatch.setattr("posa_vla.console._reserved", None)
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--json"])
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), json.loads(out) if out else {}, " ".join(err.split())

    return run


def commands() -> list[list[str]]:
    """The page's commands that wait for nobody."""
    found = re.findall(r"^    posa (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [command.split() for command in found if "--click" not in command]


def test_the_page_s_commands_label_recordings_that_know_joints_and_video_alone(
    posa: Any, recordings: tuple[Path, list[Episode]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, truth = recordings
    init, calibrate, ingest, show, *_ = ([str(folder) if word == "DATASET" else word for word in c] for c in commands())
    assert posa(*init)[0] == 0
    monkeypatch.chdir(tmp_path / "robots")
    code, found, said = posa(*calibrate)
    assert code == 0, said
    cameras = {camera["role"]: camera for camera in found["cameras"]}
    assert cameras["head"]["usable"]
    assert "on the hand" in cameras["wrist"]["reasons"][0]
    code, taken, said = posa(*ingest)
    assert code == 0, said
    assert taken["accepted"] == len(truth), taken
    assert 0.3 < taken["labelled"] <= 0.5, "the wrist's are masked"
    embodiment = load_embodiment("so101_follower.yaml")
    so101 = ForwardKinematics(embodiment, tmp_path / "robots")
    errors = []
    by_joints = {episode.state.tobytes(): episode for episode in truth}
    for stored in EpisodeStore(Workspace.open().store).episodes():
        true = by_joints[stored.state.tobytes()].cameras["head"]
        labels = anchor_labels(stored, embodiment)["head"]
        assert labels.spread[labels.valid].min() > 0
        points = so101.poses(stored.state)[:, :3]
        assert true.intrinsics is not None
        assert true.pose is not None
        seen = project(points, true.intrinsics, true.pose, SIDE, round(SIDE * 3 / 4))
        both = seen.visible & labels.valid[:, 1]
        errors.append(np.linalg.norm(labels.points[both, 1] - seen.pixels[both], axis=1) / SIDE)
        assert len(gripper_events(stored, embodiment)) >= 2  # it takes and lets go
    assert np.median(np.concatenate(errors)) < 0.04
    assert posa(*ingest)[1]["new"] == 0
    code, _, said = posa(*[{"so101": "so101_percent"}.get(word, word) for word in ingest])
    assert code == 2
    assert "declares this robot already, and not as --arm so101_percent" in said
    code, sheet, said = posa(*show)
    assert code == 0, said
    assert sheet["episodes"] == len(truth)
    page = Path(sheet["page"]).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * len(truth)


def test_recordings_without_an_arm_are_told_of_it(posa: Any, recordings: tuple[Path, list[Episode]]) -> None:
    code, taken, said = posa("data", "ingest", str(recordings[0]), "--workspace", "robots")
    assert code == 0, said
    assert taken["labelled"] == 0
    assert (
        "anchors are not labelled. Its joints are named as a shipped arm's: --arm so101 or --arm so101_percent" in said
    )
    assert "0.0% of the frames have a task label, expected 5% at least" in said
    code, _, said = posa("data", "ingest", str(recordings[0]), "--workspace", "robots", "--arm", "so101")
    assert code == 2
    assert "declares this robot already, and not as --arm so101: leave --arm out if the file is right" in said
    code, _, said = posa("data", "ingest", str(recordings[0]), "--workspace", "robots", "--embodiment", "so101")
    assert code == 2
    assert "--embodiment so101 has no cameras: --arm so101 takes the dataset's own" in said


def test_joints_of_another_unit_are_refused_before_anything_is_stored(
    posa: Any, recordings: tuple[Path, list[Episode]], tmp_path: Path
) -> None:
    declared = load_embodiment("so101").model_dump(mode="json", exclude_none=True)
    for channel in declared["state"]:
        channel.update({"unit": "rad"} if channel["unit"] == "deg" else {})
    declared |= {"id": "mine", "control_hz": 10, "cameras": {"head": {"source": "head"}}}
    copy_chain("so101", tmp_path / "mine.yaml")
    write_json(tmp_path / "mine.yaml", declared)  # JSON is YAML
    code, _, said = posa("data", "ingest", str(recordings[0]), "--workspace", "robots", "--embodiment", "mine.yaml")
    assert code == 2
    assert "they would fit as degrees: declare unit deg" in said
    assert not list(tmp_path.rglob("file-000.parquet"))
