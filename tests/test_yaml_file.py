from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from posa_vla.episodes.calibration import load_calibration
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput
from posa_vla.evaluation.ablation.plan import load_plan
from posa_vla.params_file import assignment, load_params, write_params
from posa_vla.robot.settings import read_settings
from posa_vla.yaml_file import parse_yaml, read_yaml, yaml_text

ROOT = Path(__file__).parents[1]
PARAMS = "target: pick-sim\ntargets:\n  pick-sim: {embodiment: sim_arm6, task: pick, approvals: 0}\n"


def _params(folder: Path, more: str) -> Path:
    path = folder / "params.yaml"
    path.write_bytes((PARAMS + more).encode())
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2E5", 2e5),
        ("-.5e+1", -5.0),
        ("5.", 5.0),
        ("0.5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0", 0),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("~", None),
        ("off", "off"),
        ("No", "No"),
        ("yes", "yes"),
        ("2026-01-01", "2026-01-01"),
        ("16:90", "16:90"),
        ('"0600"', "0600"),
        ("'1:30'", "1:30"),
        ("1e", "1e"),
    ],
)
def test_a_plain_value_is_what_a_person_means(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}", "a file")["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["0600", "007.5", "-012", "0o17", "1:30", "12:30:45", "1:30.5", "00", "0_1"])
def test_a_number_that_readers_of_yaml_read_differently_is_an_error_that_names_the_quoted_form(text: str) -> None:
    with pytest.raises(BadInput, match=rf'^params\.yaml, line 2, column 6: .*"{text}" in quotes'):
        parse_yaml(f"a: 1\nkey: {text}", "params.yaml")
    with pytest.raises(BadInput, match="line 1, column 1: "):
        parse_yaml(f"{text}: 1", "params.yaml")  # as a key too


def test_off_is_a_word_for_a_key_of_words_and_no_for_a_key_that_is_yes_or_no(tmp_path: Path) -> None:
    params = load_params(
        _params(
            tmp_path,
            "validation: {black: {severity: off}}\nmodel: {pose_query: no, anchor_tokens: on}\n"
            "train: {learning_rate: 1e-3}\n",
        )
    )
    assert params.validation.black.severity == "off"
    assert (params.model.pose_query, params.model.anchor_tokens) == (False, True)
    assert params.train.learning_rate == 0.001
    # By a single setting too, and back from what was written.
    by_setting = load_params(ROOT / "params.yaml", settings=["validation.black.severity=off", "model.pose_query=off"])
    assert (by_setting.validation.black.severity, by_setting.model.pose_query) == ("off", False)
    write_params(tmp_path / "again.yaml", params)
    assert load_params(tmp_path / "again.yaml") == params


def test_a_word_that_looks_like_a_number_is_told_to_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("target: 2024\ntargets: {}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"target: .*got 2024: write it in quotes"):
        load_params(path)


def test_a_second_targets_does_not_take_the_gate_away(tmp_path: Path) -> None:
    path = _params(tmp_path, "targets:\n  pick-sim: {embodiment: sim_arm6, task: pick, gate: {success_floor: -1}}\n")
    with pytest.raises(BadInput, match=r"params\.yaml, line 4, column 1: the key 'targets' .* line 2 \(column 1\)"):
        load_params(path)
    with pytest.raises(BadInput, match=r"line 1, column 8: the key 'a' stands here and in line 1 \(column 2\)"):
        parse_yaml("{a: 1, a: 2}", "a file")


def test_a_merged_mapping_may_be_overridden() -> None:
    assert parse_yaml("base: &base {a: 1, b: 1}\nown: {<<: *base, a: 2}", "a file")["own"] == {"a": 2, "b": 1}


READERS: dict[str, Callable[[Path], Any]] = {
    "embodiment": lambda path: load_embodiment(str(path)),
    "calibration": lambda path: load_calibration(path, []),
    "robot": lambda path: read_settings(path, {}),
    "plan": load_plan,
    "params": load_params,
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"a: 1\nschema_version: 1\nschema_version: 1\n", "line 3, column 1: the key 'schema_version'"),
        ("# für\na: ü\n".encode("latin-1"), "line 1, column 4: byte 0xfc is no UTF-8"),
        ("a: ü\n".encode("utf-16"), "line 1, column 1: the file is UTF-16"),
        (b"a:\n\tb: 1\n", "line 2, column 1: .*indent by spaces"),
        ("a: ü\x07\n".encode(), r"line 1, column 5: the character U\+0007"),
        (b"a: [1\n", "line 2, column 1: not YAML"),
    ],
)
def test_every_yaml_file_is_read_strictly(tmp_path: Path, kind: str, data: bytes, where: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=rf"file\.yaml, {where}"):
        READERS[kind](path)


def test_nobody_reads_yaml_another_way() -> None:
    files = [path for folder in ("posa_vla", "flows") for path in (ROOT / folder).rglob("*.py")]
    others = [p.name for p in files if re.search(r"^import yaml$|yaml\.safe_", p.read_text("utf-8"), re.MULTILINE)]
    assert others == ["yaml_file.py"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes("\ufeffname: Würfel\r\n".encode())
    assert read_yaml(path) == {"name": "Würfel"}


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_file_is_utf_8_in_another_locale(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "file.yaml").write_bytes("name: Würfel\n".encode())
    code = (
        "from pathlib import Path; from posa_vla.yaml_file import read_yaml; print(ascii(read_yaml(Path('file.yaml'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.strip() == r"{'name': 'W\xfcrfel'}", done.stderr


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff\ufffe\uffff"))
tricky = st.sampled_from(
    ["1e-3", "off", "0600", "08", "1:30", "~", "", "2026-01-01", "0o17", "<<", "=", "+.inf", "12e30"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | tricky,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | tricky, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert parse_yaml(yaml_text(value), "text") == value
    assert yaml.safe_load(yaml_text(value)) == value  # by readers of YAML 1.1 too


def test_an_assignment_s_value_is_read_the_same_way() -> None:
    assert assignment("train.learning_rate=1e-3") == {"train": {"learning_rate": 0.001}}
    with pytest.raises(BadInput, match=r"--set 'a=1:30': the value, line 1, column 1: .*quotes"):
        assignment("a=1:30")
