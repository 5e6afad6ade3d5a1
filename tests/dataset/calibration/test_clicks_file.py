"""The file of clicks: a closed schema, written after each click."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posa_vla.dataset.calibration.clicks_file import Click, ClicksKept, Place, read_clicks
from posa_vla.errors import BadInput

CLICK = {"role": "head", "episode": 0, "frame": 3, "u": 10.5, "v": 20.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"clicks": [{**CLICK, "x": 1}]}, "unknown key clicks.0.x"),
        ({"clicks": [{**CLICK, "u": -1}]}, "clicks.0.u"),
        ({"clicks": [{**CLICK, "of": "elbow"}]}, "clicks.0.of"),
        ({"clicks": [CLICK, CLICK]}, "camera head, episode 0, frame 3 has 2 clicks on the tip"),
        ({"schema_version": 3}, "later posa-vla"),
        ([], "top level"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        read_clicks(path)


def test_what_was_clicked_is_kept_and_other_cameras_stay(tmp_path: Path) -> None:
    path = tmp_path / "cal.clicks.json"
    head, wrist = Click.model_validate(CLICK), Click.model_validate({**CLICK, "role": "wrist"})
    hidden = Place(role="head", episode=1, frame=0)
    kept = ClicksKept(path, "/data", ["wrist"])
    kept.keep("head", "tip", [head], [hidden])
    kept.keep("wrist", "tip", [wrist], [])
    again = ClicksKept(path, "/data", [])
    assert again.of("head", "tip") == ([head], [hidden])
    assert again.of("wrist", "tip") == ([wrist], [])
    again.keep("head", "tip", [], [])
    assert read_clicks(path).clicks == [wrist]
    assert read_clicks(path).on_hand == ["wrist"]
    with pytest.raises(BadInput, match="holds clicks of /data, this dataset is /other"):
        ClicksKept(path, "/other", [])
