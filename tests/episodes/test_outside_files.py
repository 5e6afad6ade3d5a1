"""What is wrong with a file of a dataset is one message in our words: never an address, an exception or a library's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lerobot_datasets import CAMERA, edit_rows, make_v21, make_v30, reader_of
from taking_in import take_in

from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{0:064x}\nsize 20480\n"
ANNEX = "/annex/objects/SHA256E-s20480--{0:064x}.parquet\n"
# An address, an exception of Python, or of a library that reads files.
FOREIGN = re.compile(r"0x[0-9a-f]{6,}|object at|Errno|\w+(Error|Invalid|Exception)\b|Traceback|Arrow|magic|codec can't")


def point(folder: Path, *patterns: str, text: str = LFS) -> None:
    """Makes files of a dataset what a clone has of them that was not fetched."""
    for number, path in enumerate(sorted(p for pattern in patterns for p in folder.rglob(pattern))):
        path.write_text(text.format(number))


@pytest.mark.parametrize(
    ("make", "patterns", "said"),
    [
        (make_v21, ["*.parquet", "*.mp4"], "3 of 3 files are not here. data/chunk-000/episode_000000.parquet is"),
        (make_v21, ["*.parquet", "*.mp4", "*.jsonl"], "meta/episodes.jsonl is"),
        (make_v21, ["info.json"], "meta/info.json is"),
        (make_v21, ["episode_000001.mp4"], f"1 of 3 files are not here. videos/chunk-000/{CAMERA}/episode_000001.mp4"),
        (make_v30, ["*.parquet", "*.mp4"], "meta/episodes/chunk-000/file-000.parquet is"),
        (make_v30, ["data/*/*.parquet"], "1 of 1 files are not here. data/chunk-000/file-000.parquet is"),
        (make_v30, ["tasks.parquet"], "meta/tasks.parquet is"),
        (make_v30, ["*.mp4"], f"1 of 1 files are not here. videos/{CAMERA}/chunk-000/file-000.mp4 is"),
    ],
)
def test_pointers_of_git_lfs_are_one_message_and_nothing_comes_in(tmp_path, make, patterns, said):
    folder = make(tmp_path / "dataset")
    point(folder, *patterns)
    with pytest.raises(BadInput) as error:
        reader_of(folder)
    assert said in str(error.value)
    assert "a Git LFS pointer, not the file itself: run `git lfs pull`" in str(error.value)


def test_pointers_of_git_annex_are_said_with_their_own_command(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    point(folder, "*.parquet", text=ANNEX)
    with pytest.raises(BadInput, match=r"a git-annex pointer, not the file itself: run `git annex get \.`"):
        reader_of(folder)


def test_a_picture_that_is_a_pointer_is_said(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    (folder / "frame.png").write_text(LFS.format(1))
    edit_rows(
        folder / "data/chunk-000/episode_000001.parquet",
        lambda _, row: row.update({CAMERA: {"bytes": None, "path": "frame.png"}}),
    )
    store = EpisodeStore(tmp_path / "store")
    take_in(store, folder)
    (kept,) = store.quarantine.kept().values()
    assert "frame.png is a Git LFS pointer" in kept.value


TABLE = "data/chunk-000/episode_000001.parquet"
VIDEO = f"videos/chunk-000/{CAMERA}/episode_000001.mp4"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200:-100] = bytes(100)
    path.write_bytes(content)


def picture(data: bytes | str | None) -> Callable[[Path], None]:
    value = {"bytes": data, "path": None} if not isinstance(data, str) else {"bytes": None, "path": data}
    return lambda path: edit_rows(path, lambda _, row: row.update({CAMERA: value}))


@pytest.mark.parametrize(
    ("file", "fault", "said"),
    [
        (TABLE, lambda path: path.write_bytes(b""), "is damaged: it is empty"),
        (TABLE, cut, "is damaged: its end is missing"),
        (TABLE, flip, "is damaged: its bytes do not fit together"),
        (TABLE, lambda path: path.write_bytes(b"<html>Not found</html>"), "begins with the bytes 3c 68 74 6d"),
        (TABLE, picture(b""), "neither image bytes nor a path"),
        (TABLE, picture(b"RIFF____WEBP"), "is neither PNG nor JPEG; its 12 bytes begin with b'RIFF____WEBP': WebP"),
        (TABLE, picture(b"\x89PNG\r\n\x1a\n"), "is damaged (8 bytes"),
        (TABLE, picture("images/none.png"), "images/none.png of column observation.images.cam_high cannot be read: No"),
        (VIDEO, lambda path: path.write_bytes(b"x" * 5000), "is damaged, or no video that can be decoded here"),
    ],
)
def test_a_damaged_file_is_named_with_what_was_found(tmp_path, file, fault, said):
    folder = make_v21(tmp_path / "dataset", video=file == VIDEO)
    fault(folder / file)
    store = EpisodeStore(tmp_path / "store")
    take_in(store, folder)
    (kept,) = store.quarantine.kept().values()
    assert kept.episode == 1
    assert said in kept.value
    assert not FOREIGN.search(kept.value)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("meta/info.json", b"", "is not JSON (it ends too early)"),
        ("meta/info.json", b'{\n  "fps": 10,\n  oops}', "is not JSON (line 3, column 3: 'oops}')"),
        ("meta/info.json", b"[" * 100_000, "nested too deeply"),
        ("meta/info.json", b'{"fps": ' + b"9" * 5000 + b"}", "does not fit into 64 bits"),
        ("meta/tasks.jsonl", b'{"task_index": 0, "task": "pick"}\n{"task_index": 1', "line 2 is not JSON (it ends too"),
        (
            "meta/tasks.jsonl",
            '{"task_index": 0, "task": "schlie\xdfen"}'.encode("latin-1"),
            "is no UTF-8 text (byte 33 is 0xdf",
        ),
        ("meta/episodes.jsonl", b"[1]", "line 1: expected an object, got list"),
    ],
)
def test_metadata_that_cannot_be_read_are_named_with_the_place(tmp_path, file, content, said):
    folder = make_v21(tmp_path / "dataset", video=False)
    (folder / file).write_bytes(content)
    with pytest.raises(BadInput) as error:
        reader_of(folder)
    assert f"{folder / file}" in str(error.value)
    assert said in str(error.value)
    assert not FOREIGN.search(str(error.value).replace(said, ""))
