from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from videos import moving_picture, write_video

from posa_vla.episodes.media.video import StoredVideo, VideoFiles
from posa_vla.episodes.media.video_file import read_video_index
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
            read_video_index(path)
        with pytest.raises(BadInput, match=message):
            list(StoredVideo(path, 0.0, None, 1, 10.0, SIZE))


def test_an_encoder_leaves_this_process_as_it_was(tmp_path):
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    write_video(tmp_path / "av1.mp4", moving_picture(4), 10, "libsvtav1", preset="12")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


def test_the_image_in_the_middle_is_one_of_the_episode(sources):
    for video in sources:
        assert video.middle().tobytes() in frames_of(video)


# (codec, its options): groups of pictures closed with B-frames, of two pictures, of AV1, and open ones of HEVC.
ENCODERS = {
    "h264": ("libx264", {}),
    "h264-short": ("libx264", {"g": "2", "bf": "0"}),
    "av1": ("libsvtav1", {"g": "2", "preset": "12"}),
    "hevc-open": ("libx265", {"x265-params": "keyint=12:min-keyint=12:log-level=none"}),
}


# x265 corrupts the memory where pictures are smaller than its largest coding unit (64 pixels).
LARGE = (64, 96)


def stretches(folder: Path, encoder: str, fps: int, lengths: list[int], size: tuple[int, int]) -> list[StoredVideo]:
    """Episodes one after the other in one file, as v3.0 has them."""
    codec, options = ENCODERS[encoder]
    write_video(folder / "all.mp4", moving_picture(sum(lengths), 0, *size), fps, codec, **options)
    ends = np.cumsum(lengths)
    return [
        StoredVideo(folder / "all.mp4", (end - n) / fps, end / fps, n, fps, size)
        for n, end in zip(lengths, ends.tolist(), strict=True)
    ]


def appended(videos: list[StoredVideo], folder: Path, fps: float, size: tuple[int, int] = SIZE) -> list[StoredVideo]:
    """The same episodes, in files of the store."""
    files = VideoFiles(folder / "{number}.mp4", limit=10**9)
    places = [files.append(video) for video in videos]
    files.close()
    return [
        StoredVideo(folder / f"{number}.mp4", start, end, len(video), fps, size)
        for video, (number, start, end) in zip(videos, places, strict=True)
    ]


@pytest.mark.parametrize(
    ("encoder", "fps"),
    [("h264", 25), ("h264", 50), ("h264-short", 25), ("av1", 50), ("hevc-open", 25), ("hevc-open", 30)],
)
def test_any_start_at_any_rate_is_found_again(tmp_path, encoder, fps):
    size = LARGE if encoder == "hevc-open" else SIZE
    videos = stretches(tmp_path, encoder, fps, [11 + number % 7 for number in range(40)], size)
    whole = frames_of(StoredVideo(tmp_path / "all.mp4", 0.0, None, sum(map(len, videos)), fps, size))
    copies = appended(videos, tmp_path / "store", fps, size)
    again = appended(copies, tmp_path / "again", fps, size)
    for video, copy, third in zip(videos, copies, again, strict=True):
        assert list(copy.payloads()) == list(video.payloads()) == list(third.payloads())
    for number in (0, 1, 17, 39):
        first = round(videos[number].start * fps)
        assert frames_of(copies[number]) == whole[first : first + len(videos[number])]
        assert copies[number].middle().tobytes() in frames_of(copies[number])


def later(path: Path, target: Path, seconds: float) -> None:
    """The same video, its first picture so much later."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                out.mux(packet)


@pytest.mark.parametrize("fps", [10, 4])
def test_videos_that_do_not_begin_at_zero_or_run_at_another_rate_keep_apart(tmp_path, fps):
    videos = []
    for number, frames in enumerate((30, 7, 40)):
        write_video(tmp_path / f"{number}.mp4", moving_picture(frames, number))
        later(tmp_path / f"{number}.mp4", tmp_path / f"late-{number}.mp4", 0.8)
        videos.append(StoredVideo(tmp_path / f"late-{number}.mp4", 0.0, None, frames, fps, SIZE))
    for video, copy in zip(videos, appended(videos, tmp_path / "store", fps), strict=True):
        assert frames_of(copy) == frames_of(video)
        assert list(copy.payloads()) == list(video.payloads())
