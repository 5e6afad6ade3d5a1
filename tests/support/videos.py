"""Small videos for tests of everything that reads or copies them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def moving_picture(frames: int, seed: int = 0, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """uint8 (frames, height, width, 3): a coarse pattern that moves to the right, so that every frame is another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    pattern = coarse.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(pattern, frame, axis=1) for frame in range(frames)])


@contextmanager
def usual_priority() -> Iterator[None]:
    """Sets the scheduling back: SVT-AV1 gives a thread of root real-time priority, which its children inherit."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path, images: NDArray[np.uint8], fps: int | Fraction = 10, codec: str = "libx264", **options: str
) -> None:
    """Encodes images, with B-frames and groups of pictures of 12 frames by default (H.264)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with usual_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "yuv420p"
        stream.options = {"bf": "2", "g": "12", "crf": "10", **options} if codec == "libx264" else options
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
