"""Where files lie: info.json is a hint, and a file that was moved is found where it can only be that one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exact_datasets import taken_exactly
from lerobot_datasets import CAMERA, FPS, LENGTHS, edit_info, edit_rows, make_v21, make_v30
from taking_in import take_in
from videos import moving_picture, write_video

from posa_vla.episodes.store.episode_store import EpisodeStore

LIST = "meta/episodes/chunk-000/file-000.parquet"
V21 = {
    "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
V30 = {
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


def a_video_an_episode(folder: Path) -> Path:
    """Splits the video of a v3.0 dataset: the episodes lie in files of their own."""
    (folder / f"videos/{CAMERA}/chunk-000/file-000.mp4").unlink()
    for number, frames in enumerate(LENGTHS):
        path = folder / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4"
        write_video(path, moving_picture(frames, 10 * number), FPS)

    def own(number: int, row: dict[str, object]) -> None:
        row.update({f"videos/{CAMERA}/file_index": number, f"videos/{CAMERA}/from_timestamp": 0.0})
        row[f"videos/{CAMERA}/to_timestamp"] = LENGTHS[number] / FPS

    edit_rows(folder / LIST, own)
    return folder


@pytest.mark.parametrize(("make", "patterns"), [(make_v21, V21), (make_v30, V30)])
def test_patterns_may_have_the_separator_of_windows(tmp_path, make, patterns):
    folder = make(tmp_path / "dataset")
    edit_info(folder, **{name: pattern.replace("/", "\\") for name, pattern in patterns.items()})
    assert taken_exactly(folder) == []


def test_paths_of_pictures_may_have_the_separator_of_windows(tmp_path):
    folder = make_v21(tmp_path / "dataset", video=False)
    for path in sorted(folder.glob("data/*/*.parquet")):

        def put_away(number: int, row: dict[str, dict[str, object]], stem: str = path.stem) -> None:
            place = folder / f"images/{stem}/frame_{number:06d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(row[CAMERA]["bytes"]))  # type: ignore[call-overload]  # an image cell
            row[CAMERA] = {"bytes": None, "path": f"images\\{stem}\\frame_{number:06d}.png"}

        edit_rows(path, put_away)
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("name", ["chunk_index", "episode_group"])
def test_a_pattern_with_another_versions_or_an_unknown_name_is_no_obstacle(tmp_path, name):
    folder = make_v21(tmp_path / "dataset")
    edit_info(folder, **{key: pattern.replace("episode_chunk", name) for key, pattern in V21.items()})
    assert taken_exactly(folder) == []


@pytest.mark.parametrize("video_path", [V30["video_path"], None])
@pytest.mark.parametrize("place", ["video", "camera/videos"])
def test_videos_of_v30_are_found_under_another_folder(tmp_path, place, video_path):
    folder = make_v30(tmp_path / "dataset")
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "videos", folder / place)
    edit_info(folder, video_path=video_path)
    (remark,) = taken_exactly(folder)
    assert f"{place}/{CAMERA}/chunk-000/file-000.mp4 was taken" in remark
    assert "(3 such)" in remark


@pytest.mark.parametrize("make", [make_v21, make_v30])
def test_tables_are_found_under_another_folder(tmp_path, make):
    folder = make(tmp_path / "dataset", video=False)
    shutil.move(folder / "data", folder / "parquet")
    (remark,) = taken_exactly(folder)
    assert "parquet/chunk-000/" in remark


def test_a_file_of_another_chunk_or_camera_is_never_taken_for_one_that_is_missing(tmp_path):
    folder = make_v30(tmp_path / "dataset")
    for other in (f"videos/{CAMERA}/chunk-001", "videos/observation.images.other/chunk-000"):
        (folder / other).mkdir(parents=True)
        shutil.copy(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", folder / other / "file-000.mp4")
    (folder / f"videos/{CAMERA}/chunk-000/file-000.mp4").unlink()
    store = EpisodeStore(tmp_path / "store")
    assert take_in(store, folder).episodes == []
    assert all("does not exist" in kept.value for kept in store.quarantine.kept().values())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("end", ["last frame", "missing", "zero", "not a number"])
def test_an_episodes_end_in_its_video_is_counted_where_the_metadata_have_no_such_time(tmp_path, shared, end):
    folder = make_v30(tmp_path / "dataset")
    if not shared:
        a_video_an_episode(folder)
    key = f"videos/{CAMERA}/to_timestamp"

    def change(number: int, row: dict[str, object]) -> None:
        start = float(str(row[f"videos/{CAMERA}/from_timestamp"]))
        last = start + (LENGTHS[number] - 1) / FPS
        row[key] = {"last frame": last, "missing": None, "zero": 0.0, "not a number": float("nan")}[end]

    edit_rows(folder / LIST, change)
    assert [("to_timestamp is the time of the last frame" in remark) for remark in taken_exactly(folder)] == [True] * (
        end == "last frame"
    )
