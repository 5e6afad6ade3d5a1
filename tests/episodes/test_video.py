from __future__ import annotations

import numpy as np
import pytest
from videos import moving_picture, write_video

from posa_vla.episodes.video import StoredVideo, VideoFiles, video_size
from posa_vla.errors import BadInput

SIZE = (32, 48)


def frames_of(video: StoredVideo) -> list[bytes]:
    return [image.tobytes() for image in video]


@pytest.fixture(scope="module", params=["libx264", "libsvtav1"])
def sources(request, tmp_path_factory):
    """Three whole files, and their decoded frames."""
    folder = tmp_path_factory.mktemp(request.param)
    videos = []
    for number, frames in enumerate((30, 7, 40)):
        path = folder / f"{number}.mp4"
        options = {} if request.param == "libx264" else {"g": "2", "preset": "12"}
        write_video(path, moving_picture(frames, number), codec=request.param, **options)
        videos.append(StoredVideo(path, 0.0, None, frames, 10.0, SIZE))
    return videos


def test_frames_come_in_order_and_look_like_what_was_filmed(sources):
    for number, video in enumerate(sources):
        filmed = moving_picture(len(video), number)
        seen = np.stack(list(video))
        assert np.abs(seen.astype(int) - filmed).mean() < 12
        assert len(set(frames_of(video))) == len(video)


def test_episodes_put_into_one_file_are_bit_for_bit_what_they_were(sources, tmp_path):
    files = VideoFiles(tmp_path / "file-{number:03d}.mp4", limit=10**9)
    places = [files.append(video) for video in sources]
    files.close()
    assert [number for number, _, _ in places] == [0, 0, 0]
    for video, (_, start, end) in zip(sources, places, strict=True):
        copy = StoredVideo(tmp_path / "file-000.mp4", start, end, len(video), 10.0, SIZE)
        assert frames_of(copy) == frames_of(video)
        assert list(copy.payloads()) == list(video.payloads())
        # A stretch of a longer file can be taken over again.
        again = VideoFiles(tmp_path / f"again-{start}" / "{number}.mp4", limit=10**9)
        _, first, last = again.append(copy)
        again.close()
        third = StoredVideo(tmp_path / f"again-{start}" / "0.mp4", first, last, len(video), 10.0, SIZE)
        assert list(third.payloads()) == list(video.payloads())


def test_a_full_file_is_closed_and_another_size_begins_a_new_one(sources, tmp_path):
    write_video(tmp_path / "large.mp4", moving_picture(5, 9, 64, 64))
    large = StoredVideo(tmp_path / "large.mp4", 0.0, None, 5, 10.0, (64, 64))
    files = VideoFiles(tmp_path / "out" / "{number}.mp4", limit=1)
    numbers = [files.append(video)[0] for video in (sources[0], sources[1])]
    files.close()
    assert numbers == [0, 1]
    files = VideoFiles(tmp_path / "more" / "{number}.mp4", limit=10**9)
    numbers = [files.append(video)[0] for video in (sources[0], large, sources[1])]
    files.close()
    assert numbers == [0, 1, 2]
    assert frames_of(StoredVideo(tmp_path / "more/1.mp4", 0.0, None, 5, 10.0, (64, 64))) == frames_of(large)


def test_a_stretch_that_begins_within_a_group_of_pictures_is_cut_out(tmp_path):
    write_video(tmp_path / "long.mp4", moving_picture(60), g="10")
    whole = frames_of(StoredVideo(tmp_path / "long.mp4", 0.0, None, 60, 10.0, SIZE))
    part = StoredVideo(tmp_path / "long.mp4", 1.5, 3.3, 18, 10.0, SIZE)
    assert frames_of(part) == whole[15:33]
    files = VideoFiles(tmp_path / "out-{number}.mp4", limit=10**9)
    _, start, end = files.append(part)
    files.close()
    assert frames_of(StoredVideo(tmp_path / "out-0.mp4", start, end, 18, 10.0, SIZE)) == whole[15:33]


@pytest.mark.parametrize(("end", "frames"), [(None, 31), (None, 29), (2.0, 21), (9.0, 90)])
def test_another_number_of_frames_than_the_table_has_is_bad_input(sources, end, frames):
    video = StoredVideo(sources[0].path, 0.0, end, frames, 10.0, SIZE)
    with pytest.raises(BadInput, match=f"frames.*table {frames}"):
        list(video)
    with pytest.raises(BadInput, match=f"frames.*table {frames}"):
        list(video.payloads())


def test_a_file_that_is_no_video_is_bad_input(tmp_path):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    for path, message in ((tmp_path / "list.mp4", "damaged"), (tmp_path / "none.mp4", "does not exist")):
        with pytest.raises(BadInput, match=message):
            video_size(path)
        with pytest.raises(BadInput, match=message):
            list(StoredVideo(path, 0.0, None, 1, 10.0, SIZE))


def test_the_image_in_the_middle_is_one_of_the_episode(sources):
    for video in sources:
        assert video.middle().tobytes() in frames_of(video)
