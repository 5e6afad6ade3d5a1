"""A recording whose video stream was copied into another file is the same recording."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest
from lerobot_datasets import CAMERA, LENGTHS, make_v21, make_v30
from shared_videos import shared_file
from taking_in import take_in
from videos import moving_picture, write_video

from posa_vla.episodes.media.parameter_sets import without_parameter_sets
from posa_vla.episodes.media.video import StoredVideo
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.files import sha256_tree


def concatenated(files, target) -> None:
    """Streams one after the other, as LeRobot's converter copies them: FFmpeg puts parameter sets before key frames."""
    listing = target.with_suffix(".txt")
    listing.write_text("".join(f"file '{file}'\n" for file in files))
    with av.open(str(listing), format="concat", options={"safe": "0"}) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    listing.unlink()


@pytest.mark.parametrize("first", ["v2.1", "v3.0"])
def test_a_dataset_of_v21_and_the_same_one_converted_to_v30_are_one_set_of_recordings(tmp_path, first):
    old, new = make_v21(tmp_path / "v2.1"), make_v30(tmp_path / "v3.0")
    files = [old / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4" for number in range(len(LENGTHS))]
    concatenated(files, new / shared_file())
    encoded = [
        list(StoredVideo(path, 0.0, end, LENGTHS[0], 10.0, (32, 48)).payloads())
        for path, end in ((files[0], None), (new / shared_file(), LENGTHS[0] / 10))
    ]
    assert encoded[0] != encoded[1]
    store = EpisodeStore(tmp_path / "store")
    datasets = {"v2.1": old, "v3.0": new}
    done = take_in(store, datasets.pop(first))
    before = sha256_tree(store.root)
    (other,) = datasets.values()
    again = take_in(store, other)
    assert (done.new, again.new, again.superseded, again.kept) == (3, 0, 0, [])
    assert (again.episodes, again.batches, again.remarks) == (done.episodes, done.batches, done.remarks)
    assert sha256_tree(store.root) == before


def test_another_recording_of_the_same_motion_is_another_one(tmp_path):
    store = EpisodeStore(tmp_path / "store")
    folder = make_v21(tmp_path / "dataset")
    take_in(store, folder)
    other = shutil.copytree(folder, tmp_path / "other")
    write_video(other / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", moving_picture(LENGTHS[1], 77))
    assert take_in(store, other).new == 1


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {}), ("libx265", {"x265-params": "log-level=none"}), ("mpeg4", {})]
)
def test_the_first_picture_is_the_same_bytes_in_each_container(tmp_path, codec, options):
    pictures = np.concatenate([moving_picture(5, seed, 64, 96) for seed in (1, 2)])
    for name, images in (("a", pictures[:5]), ("b", pictures[5:])):
        write_video(tmp_path / f"{name}.mp4", images, 10, codec, **options)
    concatenated([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "all.mp4")
    alone = StoredVideo(tmp_path / "b.mp4", 0.0, None, 5, 10.0, (64, 96))
    copied = StoredVideo(tmp_path / "all.mp4", 0.5, 1.0, 5, 10.0, (64, 96))
    assert alone.first_encoded() == copied.first_encoded() != b""
    other = StoredVideo(tmp_path / "all.mp4", 0.0, 0.5, 5, 10.0, (64, 96))
    assert other.first_encoded() != alone.first_encoded()


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x09\x65abc", b"\0\0\0\0", b"\0\0\1"])
def test_a_packet_that_is_damaged_stays_as_it_is(data):
    assert without_parameter_sets(data, "h264", b"\x01\0\0\0\xff") == data


def test_lengths_of_one_and_two_bytes_are_the_same_picture():
    units = [b"\x67sps", b"\x68pps", b"\x65picture"]
    packets = [b"".join(len(unit).to_bytes(width) + unit for unit in units) for width in (1, 2, 4)]
    found = {
        without_parameter_sets(p, "h264", bytes([1, 0, 0, 0, 252 | w])) for p, w in zip(packets, (0, 1, 3), strict=True)
    }
    assert found == {b"\0\0\0\x08\x65picture"}
