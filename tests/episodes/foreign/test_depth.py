"""Depth is no colour camera: left out and said, whichever way a dataset marks it; what is beside it comes in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_datasets import CAMERA, FPS, LENGTHS, edit_info, make_v21, reader_of, write_table
from PIL import Image
from taking_in import take_in

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.episodes.media.stills import decode_still, still_size
from posa_vla.episodes.media.video_file import read_video_index
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.errors import BadInput

COLOUR = "observation.images.front"
# Millimetres, larger than a camera's 255 levels.
DISTANCES = np.linspace(300, 5000, 32 * 48).reshape(32, 48).astype(np.uint16)


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "store")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind)
    return out.getvalue()


def with_stills(folder: Path, name: str, picture: bytes, **feature: Any) -> Path:
    """A dataset of a colour camera of stills, and another column of them."""
    make_v21(folder, cameras=(COLOUR,), video=False)
    for path in folder.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        column = pa.array([{"bytes": picture, "path": None}] * len(table))
        write_table(path, table.append_column(name, column))
    return declare(folder, name, {"dtype": "image", "shape": [32, 48, 3], "names": None} | feature)


def declare(folder: Path, name: str, feature: dict[str, Any]) -> Path:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    edit_info(folder, features=features | {name: feature})
    return folder


def deep_video(path: Path, frames: int) -> None:
    """A film of 12 bits a pixel, of one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=FPS)
        # Smaller pictures than 64 pixels corrupt x265's memory.
        stream.height, stream.width, stream.pix_fmt = 64, 96, "gray12le"
        stream.options = {"x265-params": "lossless=1:log-level=none"}
        for number in range(frames):
            pixels = np.full((64, 96), 100 * number, np.uint16)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray12le")))
        container.mux(stream.encode())


def with_video(folder: Path, name: str, **feature: Any) -> Path:
    make_v21(folder, cameras=(COLOUR,))
    for number, frames in enumerate(LENGTHS):
        deep_video(folder / f"videos/chunk-000/{name}/episode_{number:06d}.mp4", frames)
    return declare(folder, name, {"dtype": "video", "shape": [64, 96, 1], "names": None} | feature)


PNG16, TIFF16, COLOURED = encoded(DISTANCES), encoded(DISTANCES, "TIFF"), encoded(np.zeros((32, 48, 3), np.uint8))
MARKED = {
    "is_depth_map": lambda d: with_stills(d, "observation.images.other", COLOURED, info={"is_depth_map": True}),
    "video.is_depth_map": lambda d: with_stills(
        d, "observation.images.other", COLOURED, video_info={"video.is_depth_map": "true"}
    ),
    "pix_fmt": lambda d: with_stills(d, "observation.images.other", COLOURED, info={"video.pix_fmt": "gray16le"}),
    "name": lambda d: with_stills(d, "observation.images.front_depth", COLOURED),
    "name without prefix": lambda d: with_stills(d, "depth.front", COLOURED),
    "one channel": lambda d: with_stills(d, "observation.images.other", COLOURED, shape=[32, 48, 1]),
    "PNG of 16 bits": lambda d: with_stills(d, "observation.images.other", PNG16),
    "TIFF": lambda d: with_stills(d, "observation.images.other", TIFF16),
    "TIFF of floats": lambda d: with_stills(
        d, "observation.images.other", encoded(DISTANCES.astype(np.float32), "TIFF")
    ),
    "video": lambda d: with_video(d, "observation.images.other", shape=[64, 96, 3], info={"video.is_depth_map": False}),
}


@pytest.mark.parametrize("mark", MARKED)
def test_depth_is_left_out_with_a_remark_and_the_colour_camera_beside_it_comes_in(tmp_path, store, mark):
    done = take_in(store, MARKED[mark](tmp_path / "dataset"))
    assert (done.new, done.kept) == (3, [])
    assert [set(episode.cameras) for episode in store.episodes()] == [{"head"}] * 3
    (remark,) = done.remarks
    assert "is depth, no colour camera: left out" in remark.value


def test_depth_is_never_proposed(tmp_path):
    folder = make_v21(tmp_path / "dataset", cameras=("observation.images.top", "observation.images.left_wrist"))
    declare(folder, "observation.images.top_depth", {"dtype": "video", "shape": [32, 48, 3]})
    with pytest.raises(BadInput) as error:
        reader_of(folder)
    assert "--map observation.images.top=head --map observation.images.left_wrist=wrist_left" in str(error.value)
    assert "top_depth" not in str(error.value)


@pytest.mark.parametrize("make", [MARKED["is_depth_map"], MARKED["PNG of 16 bits"], MARKED["video"]])
def test_depth_cannot_be_mapped_to_a_camera(tmp_path, make):
    with pytest.raises(BadInput, match=r"other is depth \(.*\), expected a colour camera"):
        reader_of(make(tmp_path / "dataset"), "observation.images.other=head")


def robot(**cameras: str) -> Embodiment:
    channels = [{"name": f"j{n}", "unit": "rad"} for n in range(4)]
    value = {"id": "arm", "simulated": False, "state": channels, "action": channels, "control_hz": FPS}
    declared = {role: {"source": source} for role, source in cameras.items()}
    return Embodiment.model_validate({**value, "cameras": declared, "action_frame": "joint"})


def test_a_person_knows_better_than_a_name(tmp_path, store):
    name = "observation.images.depth_cam_left"
    folder = with_stills(tmp_path / "dataset", name, COLOURED)
    assert take_in(store, folder, f"{name}=head").new == 3
    reader = reader_of(folder, embodiment=robot(left="depth_cam_left", front="front"))
    assert reader.features.cameras == {"left": name, "front": COLOUR}


def test_an_embodiment_that_declares_depth_as_a_camera_is_told_so(tmp_path):
    with pytest.raises(BadInput, match=r"camera far is observation.images.other, which is depth \(info.json"):
        reader_of(MARKED["is_depth_map"](tmp_path / "dataset"), embodiment=robot(far="other", front="front"))


def test_colour_of_a_depth_camera_is_colour(tmp_path):
    for name in ("observation.images.depth_camera_rgb", "observation.images.depthai_left"):
        folder = with_stills(tmp_path / name, name, COLOURED)
        assert reader_of(folder, f"{name}=head").features.depth == {}


def test_a_grey_camera_without_another_is_a_camera(tmp_path, store):
    folder = make_v21(tmp_path / "dataset")
    declare(folder, CAMERA, {"dtype": "video", "shape": [32, 48, 1], "names": None})
    assert take_in(store, folder).new == 3


def test_a_dataset_of_depth_alone_has_no_camera(tmp_path):
    folder = make_v21(tmp_path / "dataset", cameras=("observation.images.depth",))
    with pytest.raises(BadInput, match=r"no colour camera.*by its name.*--map observation.images.depth=head"):
        reader_of(folder)


def test_pictures_of_16_bits_are_never_clipped():
    for read in (still_size, lambda data: decode_still(data, 32, 48)):
        with pytest.raises(BadInput, match="one channel of more than 8 bits"):
            read(PNG16)


def test_a_film_of_one_deep_channel_is_never_clipped(tmp_path):
    deep_video(tmp_path / "deep.mp4", 3)
    with pytest.raises(BadInput, match=r"one channel \(gray12le\): depth"):
        read_video_index(tmp_path / "deep.mp4")


@pytest.mark.parametrize(
    ("data", "words"),
    [(TIFF16, "TIFF"), (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"), (b"\x93NUMPY", "NumPy")],
)
def test_what_is_no_picture_is_called_by_its_name(data, words):
    for read in (still_size, lambda data: decode_still(data, 32, 48)):
        with pytest.raises(BadInput, match=words) as error:
            read(data)
        assert "0x" not in str(error.value).replace("\\x", "")
