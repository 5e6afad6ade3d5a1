"""Video: an episode's stretch of a file, decoded by PyAV, and files that stretches are put together in unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.images import StoredImages
from posa_vla.errors import BadInput

# A larger picture is no camera's: nothing is decoded that would fill the memory.
_LARGEST_PIXELS = 64_000_000


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and video stream of an MP4 file.

    The format is stated: left to guess, FFmpeg also takes playlists, which may name any other file.
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
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} is damaged, or no video that can be decoded here ({error})") from None


def video_size(path: Path) -> tuple[int, int]:
    """Height and width (pixels) of a video file.

    Raises:
        BadInput: It is missing, damaged, or larger than any camera's picture.
    """
    with _opened(path) as (_, stream):
        height, width = int(stream.height or 0), int(stream.width or 0)
    if not 0 < height * width <= _LARGEST_PIXELS:
        raise BadInput(f"{path} has pictures of {width} x {height} pixels")
    return height, width


class StoredVideo(StoredImages):
    """The frames of one episode in a video file.

    Attributes:
        path: The file.
        start: Time of the first frame in it (s).
        end: Time at which the episode is over (s); None for the file's end.
    """

    def __init__(self, path: Path, start: float, end: float | None, frames: int, fps: float, size: tuple[int, int]):
        """Points at them; nothing is read yet.

        Args:
            path: MP4 file.
            start: Time of the first frame in the file (s).
            end: Time at which the episode is over (s); None where the whole file from `start` on is the episode.
            frames: How many there must be.
            fps: Frames per second.
            size: Height and width (pixels).
        """
        super().__init__(frames, *size)
        self.path, self.start, self.end, self._fps = path, start, end, fps

    def packets(self) -> Iterator[Any]:
        """Whole groups of pictures around the episode, in decoding order: they decode without anything before them.

        Raises:
            BadInput: The file is damaged, or has not as many frames in that time as the episode.
        """
        half, seen, started = 0.5 / self._fps, 0, False
        with _opened(self.path) as (container, stream):
            container.seek(max(int(self.start / stream.time_base), 0), stream=stream)
            for packet in container.demux(stream):
                if packet.pts is None or packet.dts is None:
                    continue
                time = float(packet.pts * packet.time_base)
                if not started and not packet.is_keyframe:
                    continue
                if self.end is not None and packet.is_keyframe and time >= self.end - half and seen >= len(self):
                    break
                started = True
                seen += time >= self.start - half and (self.end is None or time < self.end - half)
                yield packet
        self._count(seen)

    def _count(self, seen: int) -> None:
        if seen != len(self):
            stretch = "" if self.end is None else f" between {self.start:.2f} and {self.end:.2f} s"
            raise BadInput(f"{self.path} has {seen} frames{stretch}, the episode's table {len(self)}")

    def payloads(self) -> Iterator[bytes]:
        """See `StoredImages.payloads`."""
        for packet in self.packets():
            yield bytes(packet)

    def middle(self) -> NDArray[np.uint8]:
        """See `StoredImages.middle`; of the group of pictures around the middle, the first."""
        time = self.start + len(self) / 2 / self._fps
        with _opened(self.path) as (container, stream):
            container.seek(max(int(time / stream.time_base), 0), stream=stream)
            for frame in container.decode(stream):
                image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                return image
        raise BadInput(f"{self.path} has no frame at {time:.2f} s")

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        half, seen = 0.5 / self._fps, 0
        with _opened(self.path) as (container, stream):
            container.seek(max(int(self.start / stream.time_base), 0), stream=stream)
            for frame in container.decode(stream):
                time = float(frame.pts * frame.time_base) if frame.pts is not None else self.start
                if time < self.start - half:
                    continue
                if self.end is not None and time >= self.end - half:
                    break
                image = frame.to_ndarray(format="rgb24")
                if image.shape != self.shape[1:]:
                    raise BadInput(f"{self.path} has a frame of shape {image.shape}, expected {self.shape[1:]}")
                if seen < len(self):
                    yield image
                seen += 1
        self._count(seen)


class VideoFiles:
    """Video files of one camera, each the stretches of many episodes one after the other, never encoded anew."""

    def __init__(self, path: Path, limit: int) -> None:
        """Starts with no file.

        Args:
            path: With `{number}` where the file's number goes.
            limit: Size at which a file is closed and the next begun (bytes).
        """
        self._path, self._limit = str(path), limit
        self._number = -1
        self._container: Any = None
        self._stream: Any = None
        self._kind: Any = None
        self._end = 0
        self._last = 0
        self._size = 0

    def append(self, video: StoredVideo) -> tuple[int, float, float]:
        """Adds an episode's frames.

        Returns:
            Number of the file, and the episode's start and end in it (s).

        Raises:
            BadInput: See `StoredVideo.packets`.
        """
        start, shift, tick = None, 0, 0.0
        for packet in video.packets():
            if start is None:
                self._fit(packet)
                shift = self._end - packet.pts
                tick = float(packet.time_base)
                start = video.start + shift * tick
            self._end = max(self._end, packet.pts + shift + (packet.duration or 1))
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = self._stream
            self._size += packet.size
            self._last = packet.dts
            self._container.mux(packet)
        if start is None:
            raise BadInput(f"{video.path} has no frames")
        end = self._end * tick if video.end is None else start + video.end - video.start
        return self._number, start, end

    def _fit(self, packet: Any) -> None:
        """Opens a new file where this stretch cannot follow the ones before: another codec, size or clock."""
        context = packet.stream.codec_context
        kind = (
            context.codec.canonical_name,
            context.width,
            context.height,
            bytes(context.extradata or b""),
            packet.time_base,
        )
        late = packet.dts + self._end - packet.pts
        if self._container is not None and kind == self._kind and self._size < self._limit and late > self._last:
            return
        self.close()
        self._number += 1
        path = Path(self._path.format(number=self._number))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream_from_template(packet.stream, opaque=True)
        self._stream.time_base = packet.time_base
        self._kind, self._end, self._last, self._size = kind, 0, -(2**62), 0

    def close(self) -> None:
        """Writes the open file's index."""
        if self._container is not None:
            self._container.close()
            self._container = None
