"""The words of an episode are those that its frames name by number; the list beside them is a hint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exact_datasets import WORDS, taken_exactly
from lerobot_datasets import LENGTHS, TASKS, make_v21, make_v30, write_table
from taking_in import change_table, with_column

LIST = "meta/episodes/chunk-000/file-000.parquet"
MENDED = (TASKS[0], "open the TOP drawer", TASKS[0])


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def list_words(folder: Path, words: Any) -> None:
    """What the list of episodes says: a function of the episode's number; None leaves it out."""
    rows = [{"episode_index": number, "tasks": words(number), "length": n} for number, n in enumerate(LENGTHS)]
    lines(folder / "meta/episodes.jsonl", [{k: v for k, v in row.items() if v is not None} for row in rows])


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_a_task_whose_wording_was_mended_has_the_mended_words(tmp_path, make):
    folder = make(tmp_path / "dataset", video=False)
    if make is make_v21:
        lines(folder / "meta/tasks.jsonl", [{"task_index": n, "task": word} for n, word in enumerate(MENDED[:2])])
    else:
        write_table(folder / "meta/tasks.parquet", pa.table({"task_index": [0, 1], "task": list(MENDED[:2])}))
    (remark,) = taken_exactly(folder, MENDED)
    assert remark == (
        f"the list of episodes says {TASKS[1]!r}, its frames name {MENDED[1]!r}: the frames' words were taken"
    )


def test_of_several_words_the_one_that_the_frames_name_counts(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    list_words(folder, lambda number: ["valid", TASKS[number % 2]])
    remarks = taken_exactly(folder)
    assert remarks[0] == f"it has 2 instructions, the one that its frames name was taken: {TASKS[0]!r}"
    assert len(remarks) == 3


@pytest.mark.parametrize("tasks", [True, False])
def test_a_plain_string_is_an_instruction(tmp_path, tasks):
    folder = make_v21(tmp_path / "dataset", video=False)
    list_words(folder, lambda number: TASKS[number % 2])
    if not tasks:
        (folder / "meta/tasks.jsonl").unlink()
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("make", [make_v21, make_v30])
@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.int64(), 1), pa.dictionary(pa.int8(), pa.int64())])
def test_without_a_list_the_frames_number_of_any_type_says_it(tmp_path, make, kind):
    folder = make(tmp_path / "dataset", video=False)
    if make is make_v21:
        list_words(folder, lambda number: None)
    else:
        write_table(folder / LIST, pq.read_table(folder / LIST).drop(["tasks"]))
    for path in folder.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        numbers = table["task_index"].to_pylist()
        values = pa.array([[n] for n in numbers], kind) if pa.types.is_nested(kind) else None
        if values is None:
            column = pa.array(numbers, pa.int64())
            values = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        write_table(path, with_column(table, "task_index", values))
    assert taken_exactly(folder) == []


def test_numbers_of_the_task_list_may_be_floats_and_its_words_under_another_name(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    write_table(folder / LIST, pq.read_table(folder / LIST).drop(["tasks"]))
    write_table(folder / "meta/tasks.parquet", pa.table({"task_index": [0.0, 1.0], "instruction": TASKS}))
    assert taken_exactly(folder) == []


def test_a_number_that_names_no_task_leaves_the_lists_words_and_is_said(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    change_table(folder, 1, lambda table: with_column(table, "task_index", pa.array([7] * LENGTHS[1])))
    assert taken_exactly(folder) == ["its frames name task 7, which the list of tasks does not have"]


def test_rows_without_a_task_leave_the_words_that_the_others_name(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    list_words(folder, lambda number: ["stale"])
    for number, frames in enumerate(LENGTHS):
        values = [None if frame == 3 else number % 2 for frame in range(frames)]
        change_table(folder, number, lambda t, values=values: with_column(t, "task_index", pa.array(values)))
    assert [remark[:36] for remark in taken_exactly(folder)] == ["the list of episodes says 'stale', i"] * 3


def test_a_task_that_is_listed_twice_has_the_last_words_and_is_said(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    path = folder / "meta/tasks.jsonl"
    path.write_text(json.dumps({"task_index": 1, "task": "close it"}) + "\n" + path.read_text())
    (remark,) = taken_exactly(folder)
    assert remark.startswith("task 1 is listed more than once with other words")


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_the_task_list_of_the_datasets_own_version_counts(tmp_path, make):
    folder = make(tmp_path / "dataset", video=False)
    stale = [{"task_index": n, "task": "stale"} for n in range(2)]
    if make is make_v30:
        lines(folder / "meta/tasks.jsonl", stale)
    else:
        write_table(folder / "meta/tasks.parquet", pa.Table.from_pylist(stale))
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("separator", ["\u2028", "\u0085"])
def test_words_may_hold_what_separates_lines_elsewhere(tmp_path, separator):
    folder = make_v21(tmp_path / "dataset", video=False)
    words = tuple(word.replace(" up ", f" up{separator}") for word in WORDS)
    for name in ("tasks", "episodes"):
        path = folder / f"meta/{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row.update({k: words[0] if v == WORDS[0] else v for k, v in row.items() if k == "task"})
            row.update({k: [words[0] if w == WORDS[0] else w for w in v] for k, v in row.items() if k == "tasks"})
        lines(path, rows)
    assert taken_exactly(folder, words) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_metadata_that_were_saved_on_windows_are_read(tmp_path, encoding):
    folder = make_v21(tmp_path / "dataset", video=False)
    for path in (folder / "meta").iterdir():
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    assert taken_exactly(folder) == []
