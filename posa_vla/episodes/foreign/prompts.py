"""What the robot was asked at each frame of an episode, where a foreign dataset says it by the frame.

The finest words count: the subtask that a frame names, else the task that it names by number, else the episode's words.
LeRobot has had three places for subtasks: `subtask_index` with `meta/subtasks.parquet` (0.4 and 0.5), the rows of style
`subtask` in `language_persistent` (from 0.6 on), and before both, plain text in a column. Text in a column
`language_instruction`, `instruction` or `task` counts where it changes within an episode or nothing else says a word;
else it says once more, often in other words, what the task says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posa_vla.episodes.foreign.columns import flat, numbers_of_frames
from posa_vla.episodes.foreign.remarks import SaidOnce
from posa_vla.episodes.outside_files import MALFORMED, file_inside, json_lines, read_table, text_of
from posa_vla.errors import BadInput

SUBTASKS = ("meta/subtasks.parquet", "meta/subtasks.jsonl")
_SUBTASK = "subtask"
_TIMED = "language_persistent"
_INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction", "task")
# Columns of which what is not used is said here, and not as a feature that cannot be kept.
WORD_COLUMNS = (_SUBTASK, _TIMED, *_INSTRUCTIONS)
# A subtask begins with the frame that is this close to its time (s); LeRobot's own tolerance.
_CLOSE = 1e-4


class FrameWords:
    """Finds the words of frames, and what of a dataset's words is not kept."""

    def __init__(self, folder: Path, tasks: Mapping[int, str], said: SaidOnce, *, exported: bool) -> None:
        """Sets up what all episodes share.

        Args:
            folder: The dataset.
            tasks: Number -> words of the tasks that it lists.
            said: What was dropped is noted here.
            exported: Whether it was exported from here, with the words of subtasks as tasks.
        """
        self._folder, self._listed_tasks, self._exported = folder, tasks, exported
        self._once = said.note
        self._subtasks: dict[int, str] | None = None

    def of(self, table: pa.Table, instruction: str) -> tuple[str, tuple[str, ...] | None]:
        """An episode's instruction, and the words of each frame, or None where they are the instruction all along.

        Args:
            table: The episode's rows.
            instruction: What the robot was asked to do in the episode; where it is empty, its frames' first words are.
        """
        named = self._tasks(table, instruction)
        tasks = named or [instruction] * len(table)
        words = self._first_of(self._listed_subtasks(table), _texts(table, _SUBTASK), self._timed(table))
        words = words or self._instructions(table, tasks, changing=named is not None)
        if words is not None:
            tasks = [word or task for word, task in zip(words, tasks, strict=True)]
        instruction = instruction if instruction.strip() else tasks[0]
        return instruction, None if all(task == instruction for task in tasks) else tuple(tasks)

    def _first_of(self, *found: list[str] | None) -> list[str] | None:
        return next((words for words in found if words is not None and any(words)), None)

    def _tasks(self, table: pa.Table, instruction: str) -> list[str] | None:
        """The task that each frame names, or None where all name the same: that one is the episode's own.

        What was exported from here has the episode's own words beside those of its frames, even if these never change.
        """
        numbers = numbers_of_frames(table, "task_index")
        if numbers is None or ((numbers == numbers[0]).all() and not self._exported):
            return None
        return [self._listed_tasks.get(number, instruction) for number in numbers.tolist()]

    def _listed_subtasks(self, table: pa.Table) -> list[str] | None:
        numbers = numbers_of_frames(table, "subtask_index")
        if numbers is None or (numbers < 0).all():
            return None
        if self._subtasks is None:
            self._subtasks = self._read_subtasks()
        listed = self._subtasks
        words = [listed.get(number, "") for number in numbers.tolist()]
        lost = next((n for word, n in zip(words, numbers.tolist(), strict=True) if n >= 0 and not word), None)
        if lost is not None and not self._exported:
            self._once("listed", f"frames name subtask {lost}, and {SUBTASKS[0]} has no words for it")
        return words

    def _read_subtasks(self) -> dict[int, str]:
        rows: list[dict[str, Any]] = []
        try:
            if (self._folder / SUBTASKS[0]).is_file():
                rows = read_table(file_inside(self._folder, SUBTASKS[0])).to_pylist()
            rows = rows or json_lines(self._folder, SUBTASKS[1])
        except (BadInput, *MALFORMED):
            self._once("damaged", f"{SUBTASKS[0]} cannot be read: the subtasks that frames name have no words")
        listed = {}
        for row in rows:
            text = next((row[name] for name in ("subtask", "__index_level_0__") if isinstance(row.get(name), str)), "")
            number = row.get("subtask_index")
            if isinstance(number, int | float) and float(number).is_integer():
                listed[int(number)] = text_of(text).strip()
        return listed

    def _timed(self, table: pa.Table) -> list[str] | None:
        """Subtasks with the times from which on they hold; LeRobot repeats the whole list in every row."""
        if _TIMED not in table.column_names or "timestamp" not in table.column_names:
            return None
        try:
            rows: list[dict[str, Any]] = table[_TIMED][0].as_py() or []
            timed = sorted(
                (float(row["timestamp"]), text_of(row["content"]).strip())
                for row in rows
                if row["style"] == "subtask" and isinstance(row["content"], str)
            )
            others = sorted({str(row["style"]) for row in rows} - {"subtask"})
            times = np.asarray(flat(table["timestamp"]), np.float64)
        except MALFORMED:
            self._once("timed", f"{_TIMED} is not as LeRobot writes it: its words are not kept")
            return None
        if others:
            self._once("others", f"of {_TIMED} the subtasks alone are kept, not {', '.join(others)}")
        if not timed or len(times) != len(table):
            return None
        places = np.searchsorted([time for time, _ in timed], times + _CLOSE, side="right") - 1
        return [timed[place][1] if place >= 0 else "" for place in places.tolist()]

    def _instructions(self, table: pa.Table, tasks: Sequence[str], *, changing: bool) -> list[str] | None:
        for name in _INSTRUCTIONS:
            words = _texts(table, name)
            if words is None or not any(words):
                continue
            silent = [word if not task.strip() else "" for word, task in zip(words, tasks, strict=True)]
            if any(silent):
                return silent
            if len(set(filter(None, words))) > 1 and not changing:
                return words
            if said := next(((w, t) for w, t in zip(words, tasks, strict=True) if w and w != t.strip()), None):
                self._once(name, f"{name} says {said[0]!r} where the task is {said[1]!r}: the task was taken")
        return None


def _texts(table: pa.Table, name: str) -> list[str] | None:
    """Texts of a column, empty where there is none; None where it is no column of texts."""
    if name not in table.column_names:
        return None
    try:
        cells = flat(table[name]).to_pylist()
    except (pa.ArrowException, *MALFORMED):
        return None
    words = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in cells]
    if len(words) != len(table) or not any(isinstance(word, str) for word in words):
        return None
    return [text_of(word).strip() if isinstance(word, str) else "" for word in words]
