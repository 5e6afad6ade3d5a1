"""A video file from outside: opened as what it is, and when each of its pictures is shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.media.images import LARGEST_PIXELS
from posa_vla.episodes.outside_files import pointer
from posa_vla.errors import BadInput


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and video stream of an MP4 file.

    The format is stated: left to guess, FFmpeg also takes playlists, which may name any other file.

    Raises:
        BadInput: The file is missing or damaged, or holds no video.
    """
    try:
        with av.open(str(path), format="mp4") as container:
            if not container.streams.video:
                raise BadInput(f"{path} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist") from None
    except (av.FFmpegError, OSError, ValueError, EOFError):
        what = f"is {pointer(path)}" if pointer(path) else "is damaged, or no video that can be decoded here"
        raise BadInput(f"{path} {what}") from None


def _require_keepable(path: Path, stream: Any) -> None:
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        try:
            container.add_stream_from_template(stream, opaque=True)
        except ValueError:
            codec = stream.codec_context.name
            raise BadInput(
                f"{path} is of codec {codec}, which an MP4 file cannot hold; encode it as AV1 or H.264"
            ) from None


def _deep_grey(stream: Any) -> str:
    """The pixel format of pictures of one channel with more than 8 bits, else empty: a sensor's distances."""
    shape = stream.codec_context.format
    deep = shape is not None and len(shape.components) == 1 and shape.components[0].bits > 8
    return str(shape.name) if deep else ""


def deep_grey_video(path: Path) -> str:
    """The pixel format of a video of one channel with more than 8 bits; empty for every other video.

    Raises:
        BadInput: The file is missing or damaged, or holds no video.
    """
    with opened_video(path) as (_, stream):
        return _deep_grey(stream)


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What the packets of a file say of its pictures; none of them was decoded.

    Attributes:
        size: Height and width (pixels).
        times: float64 (N,) when each picture is shown, in order (s).
        hidden: float64 (M,) when pictures would be shown that an edit list hides, in order (s).
        tick: Step of the file's clock (s).
    """

    size: tuple[int, int]
    times: NDArray[np.float64]
    hidden: NDArray[np.float64]
    tick: float

    def end_of(self, last: int) -> float | None:
        """When the picture after the `last` one would be shown (s), hidden or not; None where none follows."""
        later = [*self.times[last + 1 : last + 2], *self.hidden[self.hidden > self.times[last]][:1]]
        return float(min(later)) if later else None


def read_video_index(path: Path) -> VideoIndex:
    """Reads a file's packets once.

    Raises:
        BadInput: The file is missing or damaged, its pictures are larger than any camera's or of depth, or the store's
            MP4 files cannot hold its codec.
    """
    shown: list[int] = []
    hidden: list[int] = []
    with opened_video(path) as (container, stream):
        height, width = int(stream.height or 0), int(stream.width or 0)
        _require_keepable(path, stream)
        if not 0 < height * width <= LARGEST_PIXELS:
            raise BadInput(f"{path} has pictures of {width} x {height} pixels")
        if deep := _deep_grey(stream):
            raise BadInput(f"{path} has pictures of one channel ({deep}): depth, expected a colour camera")
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and packet.dts is not None:
                    (hidden if packet.is_discard else shown).append(packet.pts)
        except (av.FFmpegError, EOFError):
            pass  # what lies before the damage can be used: who misses pictures finds that they are not there
        tick = float(stream.time_base)
    times, unseen = (np.sort(np.array(pts, np.float64)) * tick for pts in (shown, hidden))
    return VideoIndex((height, width), times, unseen, tick)
