"""What the robot was asked to do in an episode, in the words that a foreign dataset has for it."""

from __future__ import annotations

from pathlib import Path

from posa_vla.episodes.lerobot import layout as layout
from posa_vla.episodes.outside_files import file_inside, json_lines, read_table, text_of


def read_tasks(folder: Path) -> dict[int, str]:
    """Number -> words of the tasks that a dataset lists."""
    rows = json_lines(folder, "meta/tasks.jsonl")
    if not rows and (folder / layout.TASKS_PATH).is_file():
        rows = read_table(file_inside(folder, layout.TASKS_PATH)).to_pylist()
    tasks = {}
    for row in rows:
        text = next((row[name] for name in ("task", "__index_level_0__") if isinstance(row.get(name), str)), None)
        if text is not None and isinstance(row.get("task_index"), int):
            tasks[row["task_index"]] = text_of(text)
    return tasks
