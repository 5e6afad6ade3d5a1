"""What the robot was asked frame by frame: kept, used, and what is dropped of a dataset's words is said once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_datasets import FPS, LENGTHS, TASKS, add_column, edit_info, make_v21, make_v30, reader_of, write_table
from taking_in import change_table, take_in, with_column

from posa_vla.dataset.exchange.export import export
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.episode import Episode
from posa_vla.episodes.lerobot.reader import EpisodeRecord
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.files import read_json

STEPS = ["reach for the cube", "grasp the cube", "lift the cube"]


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def asked(store: EpisodeStore) -> list[tuple[str, list[tuple[int, str]]]]:
    """Instruction and prompts of the episodes, longest last; no prompts where they are the instruction."""
    episodes = sorted(store.episodes(), key=len)
    return [(e.instruction, [] if e.prompts is None else e.asked()) for e in episodes]


def step(frame: int) -> int:
    """-1 for two frames, and then a subtask for six frames each."""
    return min((frame + 4) // 6 - 1, 2)


def in_steps(task: str) -> list[tuple[int, str]]:
    return [(0, task), (2, STEPS[0]), (8, STEPS[1]), (14, STEPS[2])]


def frame_by_frame(folder: Path, name: str, value: Callable[[int], Any], dtype: str) -> Path:
    """Gives every row a value by its frame, in the place of the one that it may have."""
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        values = pa.array([value(frame) for frame in table["frame_index"].to_pylist()])
        rest = table.drop([name]) if name in table.column_names else table
        write_table(path, rest.append_column(name, values))
    features = read_json(folder / "meta/info.json")["features"]
    edit_info(folder, features=features | {name: {"dtype": dtype, "shape": [1], "names": None}})
    return folder


def listed(folder: Path, **columns: Any) -> Path:
    frame_by_frame(folder, "subtask_index", step, "int64")
    write_table(folder / "meta/subtasks.parquet", pa.table(columns))
    return folder


def numbered(folder: Path) -> Path:
    """LeRobot 0.4: the text is the pandas index."""
    return listed(folder, subtask_index=pa.array([0, 1, 2], pa.int64()), subtask=STEPS)


def numbered_without_a_name(folder: Path) -> Path:
    return listed(folder, subtask_index=[0.0, 1.0, 2.0], __index_level_0__=[f" {text} " for text in STEPS])


def numbered_in_lines(folder: Path) -> Path:
    frame_by_frame(folder, "subtask_index", lambda frame: [float(step(frame))], "float32")
    rows = [{"subtask_index": number, "subtask": text} for number, text in enumerate(STEPS)]
    (folder / "meta/subtasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def in_text(folder: Path) -> Path:
    return frame_by_frame(folder, "subtask", lambda frame: STEPS[step(frame)] if step(frame) >= 0 else "", "string")


def timed(folder: Path) -> Path:
    """LeRobot 0.6: what holds from when on, the whole list in every row."""
    rows = [
        {"role": "assistant", "content": text, "style": "subtask", "timestamp": (2 + 6 * number) / FPS}
        for number, text in reversed(list(enumerate(STEPS)))
    ]
    rows.append({"role": "assistant", "content": "first this, then that", "style": "plan", "timestamp": 0.0})
    add_column(folder, "language_persistent", [{**row, "camera": None} for row in rows], "language")
    return folder


@pytest.mark.parametrize(
    ("annotate", "make"),
    [
        (numbered, make_v30),
        (numbered_without_a_name, make_v21),
        (numbered_in_lines, make_v21),
        (in_text, make_v30),
        (timed, make_v21),
        (timed, make_v30),
    ],
)
def test_the_subtask_that_a_frame_names_is_what_the_robot_was_asked(tmp_path, store, make, annotate):
    done = take_in(store, annotate(make(tmp_path / "dataset", video=False)))
    assert asked(store) == [(TASKS[number % 2], in_steps(TASKS[number % 2])) for number in (0, 2, 1)]
    said = [remark.value for remark in done.remarks]
    # Said once for the dataset: what of its words is not kept.
    plan = "of language_persistent the subtasks alone are kept, not plan (this is said once for the dataset)"
    assert said == ([plan] if annotate is timed else [])
    assert not validate(store.root).quarantined


def of_several_tasks(folder: Path, change: Callable[[int], int] = lambda frame: int(frame >= 9)) -> Path:
    return frame_by_frame(folder, "task_index", change, "int64")


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_tasks_that_change_within_an_episode_are_kept_frame_by_frame(tmp_path, store, make):
    take_in(store, of_several_tasks(make(tmp_path / "dataset", video=False)))
    assert [prompts for _, prompts in asked(store)] == [[(0, TASKS[0]), (9, TASKS[1])]] * 3


def test_a_list_that_contradicts_words_of_frames_is_said(tmp_path, store):
    folder = of_several_tasks(make_v21(tmp_path / "dataset", video=False))
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace(TASKS[0], "stale").replace(TASKS[1], "stale"))
    done = take_in(store, folder)
    assert [prompts for _, prompts in asked(store)] == [[(0, TASKS[0]), (9, TASKS[1])]] * 3
    said = f"the list of episodes says 'stale', its frames name {TASKS[0]!r}: the frames' words were taken"
    assert [remark.value for remark in done.remarks] == [said] * 3


def test_tasks_that_change_are_kept_in_whatever_type_their_numbers_are(tmp_path, store):
    folder = of_several_tasks(make_v21(tmp_path / "dataset", video=False))
    kind = pa.decimal128(20, 0)
    for number in range(len(LENGTHS)):
        change_table(folder, number, lambda t: with_column(t, "task_index", t["task_index"].cast(kind)))
    take_in(store, folder)
    assert [prompts for _, prompts in asked(store)] == [[(0, TASKS[0]), (9, TASKS[1])]] * 3


def test_a_frame_whose_task_has_no_words_has_those_of_its_episode(tmp_path, store):
    take_in(store, of_several_tasks(make_v21(tmp_path / "dataset", video=False), lambda frame: 7 * (frame > 4)))
    assert {tuple(prompts) for _, prompts in asked(store)} <= {(), ((0, TASKS[0]), (5, TASKS[1]))}


@pytest.mark.parametrize(
    ("text", "prompts", "said"),
    [
        # The same, and the same in other words: the task counts.
        (lambda frame: TASKS[0], [], []),
        (lambda frame: "Grab it!", [], ["language_instruction says 'Grab it!' where the task is"]),
        # What changes within an episode is what the frames name.
        (lambda frame: STEPS[frame > 9], [(0, STEPS[0]), (10, STEPS[1])], []),
        (lambda frame: STEPS[1] if frame > 9 else None, [], ["language_instruction says 'grasp the cube'"]),
    ],
)
def test_text_beside_the_task_counts_where_it_says_more(tmp_path, store, text, prompts, said):
    folder = make_v21(tmp_path / "dataset", video=False)
    lines = (folder / "meta/episodes.jsonl").read_text().replace(TASKS[1], TASKS[0])
    (folder / "meta/episodes.jsonl").write_text(lines)
    of_several_tasks(folder, lambda _: 0)
    add_column(folder, "language_instruction", text, "string")
    add_column(folder, "language_instruction_2", "another way to say it", "string")
    done = take_in(store, folder)
    assert asked(store) == [(TASKS[0], prompts)] * 3
    values = [remark.value for remark in done.remarks]
    assert values[0] == "feature language_instruction_2 cannot be kept"
    assert len(values) == 1 + len(said)
    assert all(value.startswith(start) for value, start in zip(values[1:], said, strict=True))


@pytest.mark.parametrize("name", ["language_instruction", "instruction", "task"])
def test_text_is_the_instruction_where_nothing_else_says_a_word(tmp_path, store, name):
    folder = make_v21(tmp_path / "dataset", video=False)
    (folder / "meta/episodes.jsonl").unlink()
    (folder / "meta/tasks.jsonl").unlink()
    add_column(folder, name, "wipe the table", "string")
    take_in(store, folder)
    assert asked(store) == [("wipe the table", [])] * 3
    assert "instruction" not in validate(store.root).rules


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1")])
def test_subtasks_without_words_cost_nothing_and_are_said_once(tmp_path, store, damage):
    folder = numbered(make_v21(tmp_path / "dataset", video=False))
    damage(folder / "meta/subtasks.parquet")
    done = take_in(store, folder)
    assert asked(store) == [(TASKS[number % 2], []) for number in (0, 2, 1)]
    assert {episode.extra["subtask_index"].max() for episode in store.episodes()} == {2}
    lost = [remark for remark in done.remarks if "meta/subtasks.parquet has no words" in remark.value]
    assert [remark.episode for remark in lost] == [0]


def test_words_that_come_later_take_the_place_of_none_and_not_the_other_way(tmp_path, store):
    folder = make_v21(tmp_path / "dataset", video=False)
    take_in(store, folder)
    annotated = numbered(make_v21(tmp_path / "annotated", video=False))
    edit_info(annotated, features=read_json(folder / "meta/info.json")["features"])
    done = take_in(store, annotated)
    assert (done.new, done.superseded) == (3, 3)
    again = take_in(store, folder)
    assert (again.new, again.superseded, again.episodes) == (0, 0, done.episodes)
    counted = [e for e in store.episodes() if e.prompts is not None]
    assert len(counted) == 3


def in_one_step(folder: Path) -> Path:
    return frame_by_frame(folder, "subtask", lambda _: STEPS[0], "string")


@pytest.mark.parametrize("annotate", [numbered, of_several_tasks, in_one_step])
def test_an_export_comes_back_as_the_same_episodes_with_the_same_words(tmp_path, store, annotate):
    take_in(store, annotate(make_v30(tmp_path / "dataset", video=False)))
    export(store, validate(store.root), tmp_path / "exported")
    info = read_json(tmp_path / "exported/meta/info.json")
    tasks = pq.read_table(tmp_path / "exported/meta/tasks.parquet").num_rows
    assert info["total_tasks"] == tasks == {numbered: 5, of_several_tasks: 2, in_one_step: 3}[annotate]
    again = take_in(store, tmp_path / "exported")
    assert (again.new, again.remarks) == (0, [])
    assert again.episodes == [record.extra.digest for record in records(store)]


def records(store: EpisodeStore) -> list[EpisodeRecord]:
    return [record for _, reader in store.readers() for record in reader.records]


def test_frames_without_words_are_found(tmp_path, store):
    (episode, *_) = episodes_of(make_v21(tmp_path / "dataset", video=False))
    silent = Episode(**{**vars(episode), "prompts": tuple("" if 5 <= n < 9 else "go" for n in range(len(episode)))})
    store.append([silent], reader_of(tmp_path / "dataset").embodiment)
    (finding,) = [f for f in validate(store.root).findings if f.rule == "instruction"]
    assert (finding.severity, finding.frame) == ("severe", 5)


def episodes_of(folder: Path) -> list[Episode]:
    reader = reader_of(folder)
    return [reader.episode(where) for where in reader.source.episodes()]


@pytest.mark.parametrize(
    "cells",
    [
        [{"content": "x"}],
        [{"style": "subtask", "content": None, "timestamp": 0.0}],
        [{"style": None, "content": "x", "timestamp": None}],
        "text",
        [],
        3.5,
    ],
)
def test_a_column_of_words_in_another_form_costs_no_episode(tmp_path, store, cells):
    folder = make_v21(tmp_path / "dataset", video=False)
    for name in ("language_persistent", "subtask", "subtask_index"):
        add_column(folder, name, [cells] if name == "subtask" else cells)
    done = take_in(store, folder)
    assert (len(done.episodes), done.kept) == (len(LENGTHS), [])
