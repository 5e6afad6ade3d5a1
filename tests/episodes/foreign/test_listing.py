"""Which episodes there are: metadata may be stale, of another type or of another version; the files decide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exact_datasets import taken_exactly
from lerobot_datasets import (
    CAMERA,
    FPS,
    LENGTHS,
    TASKS,
    edit_info,
    edit_rows,
    make_v21,
    make_v30,
    reader_of,
    write_table,
)
from taking_in import change_table, take_in, with_column

from posa_vla.episodes.foreign.dataset import open_source
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

ROWS = "data/chunk-000/file-000.parquet"
LIST = "meta/episodes/chunk-000/file-000.parquet"
KEYS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def as_type(folder: Path, glob: str, kind: Any, *names: str) -> None:
    """Gives columns of tables another type."""
    for path in folder.glob(glob):
        table = pq.read_table(path)
        for name in names or [n for n in table.column_names if pa.types.is_integer(table[n].type)]:
            old = table[name].type
            new = (
                pa.array(table[name].to_pylist(), old).cast(kind)
                if isinstance(kind, pa.DataType)
                else kind(table[name])
            )
            table = with_column(table, name, new)
        write_table(path, table)


def lists_of_one(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([[value] for value in column.to_pylist()], pa.list_(column.type))


def without_words(folder: Path) -> None:
    """Takes the words out of the list of episodes."""
    if (folder / LIST).exists():
        write_table(folder / LIST, pq.read_table(folder / LIST).drop(["tasks"]))
    else:
        rows = [json.dumps({"episode_index": number, "length": n}) for number, n in enumerate(LENGTHS)]
        (folder / "meta/episodes.jsonl").write_text("\n".join(rows))


def second_file(folder: Path) -> None:
    """Moves the last episode's rows of a v3.0 dataset into a second table."""
    table, first = pq.read_table(folder / ROWS), LENGTHS[0] + LENGTHS[1]
    write_table(folder / ROWS, table.slice(0, first))
    write_table(folder / "data/chunk-000/file-001.parquet", table.slice(first))


def test_the_table_that_has_an_episode_is_read_whatever_the_metadata_name(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    second_file(folder)
    (remark,) = taken_exactly(folder)
    assert remark.startswith(f"{ROWS} has no rows of episode 2, as the metadata say: data/chunk-000/file-001.parquet")


def test_a_table_without_rows_is_no_episodes(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    write_table(folder / "data/chunk-000/file-001.parquet", pq.read_table(folder / ROWS).slice(0, 0))
    shutil.rmtree(folder / "meta/episodes")
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("value", [None, -1, 7.5, "0"])
def test_metadata_that_name_no_table_are_not_needed(tmp_path, value):
    folder = make_v30(tmp_path / "dataset", video=False)
    second_file(folder)
    table = pq.read_table(folder / LIST)
    write_table(folder / LIST, with_column(table, "data/chunk_index", pa.array([value] * 3)))
    assert taken_exactly(folder) == []


def test_a_listed_episode_that_no_table_has_is_kept_aside(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    table = pq.read_table(folder / ROWS)
    write_table(folder / ROWS, table.slice(0, LENGTHS[0] + LENGTHS[1]))
    store = EpisodeStore(tmp_path / "store")
    done = take_in(store, folder)
    (kept,) = store.quarantine.kept().values()
    assert (len(done.episodes), kept.episode) == (2, 2)
    assert kept.value == f"{ROWS} has no row of episode 2"


def test_an_episode_in_two_tables_is_that_of_the_table_that_the_metadata_name(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    table = pq.read_table(folder / ROWS)
    write_table(folder / "data/chunk-000/file-001.parquet", table.slice(0, 5))
    assert taken_exactly(folder) == []
    # Nobody says which of the two it is.
    edit_rows(folder / LIST, lambda number, row: row.update({"data/file_index": 9}))
    store = EpisodeStore(tmp_path / "other")
    assert len(take_in(store, folder).episodes) == 2
    assert [k.episode for k in store.quarantine.kept().values()] == [0]


@pytest.mark.parametrize("kind", [pa.float64(), lists_of_one])
def test_the_numbers_of_the_metadata_may_be_of_any_type(tmp_path, kind):
    folder = make_v30(tmp_path / "dataset")
    as_type(folder, LIST, kind)
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_index_columns_may_be_lists_of_one(tmp_path, make):
    folder = make(tmp_path / "dataset")
    as_type(folder, "data/*/*.parquet", lists_of_one, *KEYS)
    without_words(folder)
    assert taken_exactly(folder) == []


def large_lists(column: pa.ChunkedArray) -> pa.Array:
    return pa.array(column.to_pylist(), pa.large_list(pa.float32()))


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_tables_may_have_the_types_of_polars_and_pandas(tmp_path, make):
    folder = make(tmp_path / "dataset", video=False)
    as_type(folder, "data/*/*.parquet", large_lists, "observation.state", "action")
    as_type(folder, "data/*/*.parquet", pa.float64(), "frame_index", "episode_index", "task_index")
    as_type(folder, "data/*/*.parquet", lambda column: column.combine_chunks().dictionary_encode(), "index")
    without_words(folder)
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_an_episode_that_is_listed_twice_is_said_and_the_last_line_counts(tmp_path, make, same):
    folder = make(tmp_path / "dataset", video=False)
    twice = {"episode_index": 2, "tasks": [TASKS[0]], "length": LENGTHS[2] if same else 99}
    if make is make_v21:
        path = folder / "meta/episodes.jsonl"
        first, second, third = path.read_text().splitlines()
        path.write_text("\n".join([first, second, json.dumps(twice), third, ""]))
    else:
        rows = pq.read_table(folder / LIST).to_pylist()
        write_table(folder / LIST, pa.Table.from_pylist([*rows[:2], rows[2] | twice, rows[2]]))
    assert taken_exactly(folder) == ["episode 2 is listed more than once: what is listed last was taken"]


@pytest.mark.parametrize("column", [pa.nulls(25), pa.array(["a"] * 25), pa.array([0] * 25, pa.int64())])
def test_a_file_that_is_named_after_its_episode_is_that_episodes(tmp_path, column):
    folder = make_v21(tmp_path / "dataset")
    change_table(folder, 2, lambda table: with_column(table, "episode_index", column))
    numbered = pa.types.is_integer(column.type)
    said = ["its rows say episode 0, the name of its file 2, which counts"] if numbered else []
    assert taken_exactly(folder) == said


@pytest.mark.parametrize("video", [True, False])
def test_files_as_of_v21_under_the_name_of_v30_are_read_as_they_lie(tmp_path, video):
    folder = make_v21(tmp_path / "dataset", video=video)
    edit_info(folder, codebase_version="v3.0")
    assert taken_exactly(folder) == ["info.json says v3.0, its files lie as in v2.1: they were read so"]


@pytest.mark.parametrize("version", ["v2.1", None])
def test_files_as_of_v30_under_another_name_are_read_as_they_lie(tmp_path, version):
    folder = make_v30(tmp_path / "dataset")
    edit_info(folder, codebase_version=version)
    said = "says v2.1" if version else "states no version"
    assert taken_exactly(folder) == [f"info.json {said}, its files lie as in v3.0: they were read so"]


def test_videos_as_of_v21_beside_tables_as_of_v30_are_read_as_they_lie(tmp_path):
    folder, other = make_v30(tmp_path / "dataset"), make_v21(tmp_path / "other")
    shutil.rmtree(folder / "videos")
    shutil.move(other / "videos", folder / "videos")
    (remark,) = taken_exactly(folder)
    assert remark.endswith(f"{CAMERA}/episode_000000.mp4 is the episode's own, and was taken (3 such)")
    table = pq.read_table(folder / LIST)
    write_table(folder / LIST, table.select([name for name in table.column_names if not name.startswith("videos/")]))
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_files_that_a_conversion_left_over_are_not_read(tmp_path, version):
    folder = make_v30(make_v21(tmp_path / "dataset"))
    edit_info(folder, codebase_version=version)
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("listed", [True, False])
def test_videos_of_which_nobody_says_where_they_begin_are_one_message(tmp_path, listed):
    folder = make_v30(tmp_path / "dataset")
    shutil.rmtree(folder / "meta/episodes")
    if listed:
        (folder / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "length": LENGTHS[0]}))
    edit_info(folder, codebase_version="v2.1")
    with pytest.raises(BadInput, match=rf"which video files of {CAMERA} .*version is v2.1, its files lie as in v3.0"):
        reader_of(folder)


@pytest.mark.parametrize(("version", "make", "looks"), [("v1.6", make_v21, "v2.1"), ("v4.0", make_v30, "v3.0")])
def test_a_version_that_is_not_read_is_one_message_that_says_what_the_files_look_like(tmp_path, version, make, looks):
    folder = make(tmp_path / "dataset", video=False)
    edit_info(folder, codebase_version=version)
    with pytest.raises(BadInput, match=rf"version {version}, expected v2.0, v2.1 or v3.0; its files lie as in {looks}"):
        open_source(folder)


def test_a_version_without_its_letter_is_that_version(tmp_path):
    folder = make_v30(tmp_path / "dataset", video=False)
    edit_info(folder, codebase_version="3.0", fps=float(FPS))
    assert taken_exactly(folder) == []


SIDE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(400)


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_files_that_a_mac_or_a_cache_left_are_none_of_the_datasets(tmp_path, make):
    folder = make(tmp_path / "dataset")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.with_name(f"._{path.name}").write_bytes(SIDE)
        cached = folder / ".cache/huggingface" / path.relative_to(folder)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(SIDE)
    (folder / ".DS_Store").write_bytes(bytes(64))
    if make is make_v21:
        shutil.move(folder / "videos/chunk-000", folder / "videos/moved")
    assert all("moved" in remark for remark in taken_exactly(folder))
