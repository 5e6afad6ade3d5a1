"""A robot's file: written, found, read, and overridden by flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from posa_vla.errors import BadInput
from posa_vla.robot.settings import (
    FILE,
    RobotSettings,
    fields,
    file_text,
    find_file,
    new_settings,
    read_settings,
    seen_from,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "robot-1.yaml"
NEEDED = {"home": "state", "channel": "s3://releases/a", "target": "bench-pick"}


def written(path: Path, **values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"schema_version": 1, **NEEDED, **values}))
    return path


def test_a_robot_s_file_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "bench" / FILE
    path.parent.mkdir()
    path.write_bytes(GOLDEN.read_bytes())
    known = read_settings(path, {}).settings
    assert known == RobotSettings(
        home=str(path.parent / "state"),
        channel=str(path.parent / "../channel"),
        target="bench-pick",
        embodiment=str(path.parent / "arm.yaml"),
        options={"task": "pick", "objects": 2},
        name="bench-1",
        episodes=0,
        interval=15,
        socket="/run/posa-robot/control.sock",
        reports="s3://posa-robots/bench",
        max_steps=40,
        speed_limit=0.5,
        allow_upscale=True,
        execute=4,
        committed=2,
        image_size=64,
        schema_version=1,
    )
    newer = GOLDEN.with_name("robot-2.yaml")
    assert set(yaml.safe_load(newer.read_text())) == set(fields())
    assert set(fields()) - set(yaml.safe_load(GOLDEN.read_text())) == {"flow_steps", "start_noise"}


_TEXT = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and "://" not in text)
_OPTION = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(-1e9, 1e9)
_SETTINGS = st.builds(
    RobotSettings,
    home=_TEXT,
    channel=_TEXT | st.just("s3://releases/a"),
    target=_TEXT,
    embodiment=st.sampled_from(["sim_arm6", "arm.yaml", "arms/mine.yaml"]),
    driver=_TEXT,
    options=st.dictionaries(st.text(max_size=6), _OPTION, max_size=3),
    name=_TEXT,
    episodes=st.integers(0, 9),
    interval=st.floats(0, 1e6),
    socket=st.none() | _TEXT,
    reports=st.none() | _TEXT,
    max_steps=st.none() | st.integers(1, 99),
    speed_limit=st.floats(0, 1, exclude_min=True),
    allow_upscale=st.booleans(),
    execute=st.none() | st.integers(1, 9),
    flow_steps=st.none() | st.integers(1, 9),
    start_noise=st.none() | st.floats(0, 1),
    ensemble=st.none() | st.floats(0, 9),
    image_size=st.none() | st.integers(16, 999),
)


@given(own=_SETTINGS)
@example(own=RobotSettings(**{**NEEDED, "home": "\x85"}))  # a line break of YAML's
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_what_is_read(own: RobotSettings) -> None:
    text = file_text(own)
    assert RobotSettings.model_validate(yaml.safe_load(text)) == own


@given(own=_SETTINGS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_elsewhere_names_the_same_places(own: RobotSettings, tmp_path: Path) -> None:
    path = tmp_path / "state" / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(file_text(seen_from(path.parent, own)))
    known = read_settings(path, {}).settings
    for key in ("home", "channel", "socket", "reports", "embodiment"):
        said, read = getattr(own, key), getattr(known, key)
        if said is None or "://" in said or said == "sim_arm6":
            assert read == said
        else:
            assert os.path.abspath(read) == os.path.abspath(os.path.expanduser(said))
    assert known.model_copy(update=own.model_dump()) == own


def test_every_key_has_its_reason_above_it() -> None:
    blocks = file_text(RobotSettings(**NEEDED)).strip().split("\n\n")[1:]
    assert [block.splitlines()[-1].partition(":")[0] for block in blocks] == list(fields())
    for block in blocks:
        comments = block.splitlines()[:-1]
        assert comments
        assert all(line.startswith("# ") for line in comments)


def test_the_file_is_the_named_one_else_the_home_s_else_this_folder_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = written(tmp_path / FILE, name="here")
    assert find_file(None, None) == Path(FILE)
    assert read_settings(None, {}).settings.name == "here"
    # Another robot's home: the file of this folder says nothing about it.
    assert find_file(None, "other") is None
    with pytest.raises(BadInput, match=f"--channel, --target missing, and there is no other/{FILE}.*posa robot init"):
        read_settings(None, {"home": "other"})
    written(tmp_path / "other" / FILE, name="other", home=".")
    assert read_settings(None, {"home": "other"}).settings.name == "other"
    named = written(tmp_path / "named.yaml", name="named")
    assert read_settings(named, {"home": "other"}).settings.name == "named"
    here.unlink()
    with pytest.raises(BadInput, match=r"--home, --channel, --target missing"):
        read_settings(None, {})
    with pytest.raises(BadInput, match=r"nowhere.yaml does not exist: `posa robot init --out"):
        read_settings(tmp_path / "nowhere.yaml", {})


def test_flags_override_the_file_and_their_paths_are_seen_from_here(tmp_path: Path) -> None:
    path = written(tmp_path / FILE, max_steps=40, options={"task": "pick", "objects": 2}, reports="reports")
    flags = {"channel": "channel", "max_steps": 30, "options": {"objects": 1}}
    known = read_settings(path, flags)
    own = known.settings
    assert (own.home, own.channel, own.reports) == (str(tmp_path / "state"), "channel", str(tmp_path / "reports"))
    assert (own.max_steps, own.options) == (30, {"task": "pick", "objects": 1})
    assert known.said_in["reports"] == path
    assert not {"max_steps", "channel"} & set(known.said_in)


def test_the_file_s_options_are_its_driver_s_and_not_another_one_s(tmp_path: Path) -> None:
    path = written(tmp_path / FILE, options={"task": "pick", "objects": 2})
    assert read_settings(path, {"driver": "simulated"}).settings.options == {"task": "pick", "objects": 2}
    assert read_settings(path, {"driver": "dry-run"}).settings.options == {}
    assert read_settings(path, {"driver": "dry-run", "options": {"task": "t"}}).settings.options == {"task": "t"}


def test_a_home_under_the_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    path = written(tmp_path / FILE, home="~/robot")
    assert read_settings(path, {}).settings.home == "/home/ada/robot"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speedlimit": 0.5}, r"robot.yaml: unknown key speedlimit; did you mean 'speed_limit'"),
        ({"speed_limit": 1.5}, r"robot.yaml: speed_limit: .*less than or equal to 1, got 1.5"),
        ({"home": None}, r"robot.yaml: home: Field required$"),
        ({"schema_version": 3}, r"robot.yaml was written by a later posa-vla"),
        ({"options": {"since": "2026-01-01"}, "interval": "soon"}, r"robot.yaml: interval"),
        ({"aws_secret_access_key": "hunter2"}, r"robot.yaml: unknown key aws_secret_access_key"),
        (
            {"channel": "s3://AKIA:hunter2@bucket"},  # pragma: allowlist secret
            r"robot.yaml: channel: the address has credentials",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_no_secret_is_repeated(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        read_settings(written(tmp_path / FILE, **change), {})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a\n", "home: [\n", "home: 2026-13-01\n"])
def test_what_is_no_robot_s_file_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(BadInput, match=r"robot\.yaml"):
        read_settings(tmp_path / FILE, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read_settings(tmp_path / "folder", {})


def test_a_new_file_lies_in_its_home_or_has_its_home_beside_it(tmp_path: Path) -> None:
    flags = {"channel": "s3://releases/a", "target": "bench-pick"}
    path, own = new_settings(None, {**flags, "home": str(tmp_path / "arm")})
    assert path == tmp_path / "arm" / FILE
    assert seen_from(path.parent, own).home == "."
    path, own = new_settings(tmp_path / "b.yaml", flags)
    assert (own.home, seen_from(path.parent, own).home) == (str(tmp_path / "robot"), "robot")
    path.write_text("mine")
    with pytest.raises(BadInput, match="exists already and is not changed"):
        new_settings(path, flags)
    assert path.read_text() == "mine"


def test_a_setting_that_is_there_and_empty_is_not_said(tmp_path: Path) -> None:
    path = written(tmp_path / "robot.yaml", reports="", socket="", name="", driver=None, embodiment="")
    given = read_settings(path, {"interval": None, "reports": ""})
    assert given.settings == read_settings(written(tmp_path / "other.yaml"), {}).settings
    assert given.settings.reports is None
    with pytest.raises(BadInput, match="--target missing"):
        read_settings(None, {"home": str(tmp_path / "none"), "channel": "c", "target": ""})
