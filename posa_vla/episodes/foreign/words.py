"""What the robot was asked to do in an episode, in the words that a foreign dataset has for it.

The task that the frames name by number decides. The list of episodes says the same a second time, without order, and
is not mended when the wording is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posa_vla.episodes.foreign.columns import numbers_of_frames
from posa_vla.episodes.lerobot import layout
from posa_vla.episodes.outside_files import file_inside, json_lines, read_table, text_of, whole

_LINES = "meta/tasks.jsonl"


def words_of(value: Any) -> list[str]:
    """The instructions that metadata give: a text, or a list of them, without empty ones and repetitions."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return list(dict.fromkeys(text_of(text) for text in texts if isinstance(text, str) and text.strip()))


def read_tasks(folder: Path, version: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """Number -> words of the tasks that a dataset lists, and (rule, value) of what is wrong with the list.

    Args:
        folder: The dataset.
        version: `v2` or `v3`: whose list counts where there are both.

    Raises:
        BadInput: The list cannot be read.
    """
    lists = [json_lines, _of_table] if version == "v2" else [_of_table, json_lines]
    rows = next((rows for read in lists if (rows := read(folder, _LINES))), [])
    tasks: dict[int, str] = {}
    twice = set()
    for row in rows:
        # `task`, or whatever pandas called it, if the row has no other text.
        others = words_of([text for text in row.values() if isinstance(text, str)])
        texts = words_of(row.get("task")) or (others if len(others) == 1 else [])
        number = whole(row.get("task_index"))
        if not texts or number is None:
            continue
        if tasks.get(number, texts[0]) != texts[0]:
            twice.add(number)
        tasks[number] = texts[0]
    numbers = ", ".join(str(number) for number in sorted(twice)[:5])
    said = f"task {numbers} is listed more than once with other words: what is listed last was taken"
    return tasks, [("twice", said)] if twice else []


def _of_table(folder: Path, _: str) -> list[dict[str, Any]]:
    if not (folder / layout.TASKS_PATH).is_file():
        return []
    rows: list[dict[str, Any]] = read_table(file_inside(folder, layout.TASKS_PATH)).to_pylist()
    return rows


def numbers_of_tasks(table: pa.Table) -> list[int]:
    """Numbers of the tasks that an episode's frames name, in the order in which they come first."""
    numbers = numbers_of_frames(table, "task_index")
    if numbers is None:
        return []
    found, first = np.unique(numbers, return_index=True)
    return [int(number) for number in found[np.argsort(first)] if number >= 0]


def instruction_of(listed: Sequence[str], numbers: list[int], tasks: dict[int, str]) -> str:
    """An episode's instruction: what its frames name first, else what the list of episodes has first.

    Args:
        listed: Instructions that the list of episodes gives it.
        numbers: Tasks that its frames name.
        tasks: Number -> words.
    """
    named = [tasks[number] for number in numbers if number in tasks]
    return [*named, *listed, ""][0]


def word_remarks(
    listed: Sequence[str], numbers: list[int], tasks: dict[int, str], *, by_frame: bool
) -> Iterator[tuple[str, int | None, str]]:
    """Rule, frame and value where an episode's words contradict each other, or one of several was taken.

    Args:
        listed: See `instruction_of`.
        numbers: See `instruction_of`.
        tasks: See `instruction_of`.
        by_frame: Whether each frame keeps its own words, so that several are no contradiction.
    """
    named = list(dict.fromkeys(tasks[number] for number in numbers if number in tasks))
    chosen = instruction_of(listed, numbers, tasks)
    unknown = [number for number in numbers if number not in tasks]
    if unknown and tasks:
        yield "metadata", None, f"its frames name task {unknown[0]}, which the list of tasks does not have"
    if named and listed and not set(named) & set(listed):
        yield (
            "metadata",
            None,
            f"the list of episodes says {listed[0]!r}, its frames name {chosen!r}: the frames' words were taken",
        )
    elif len(listed) > 1 and not by_frame:
        which = "that its frames name" if named else "that is listed first"
        yield "metadata", None, f"it has {len(listed)} instructions, the one {which} was taken: {chosen!r}"
