"""Video: an episode's stretch of a file, decoded by PyAV, and files that stretches are put together in unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from posa_vla.episodes.media.images import StoredImages
from posa_vla.episodes.media.parameter_sets import without_parameter_sets
from posa_vla.episodes.media.video_file import opened_video
from posa_vla.errors import BadInput

# Frames that may stand before a picture in a file although they show later: no encoder looks further ahead.
_REORDERED = 17


class StoredVideo(StoredImages):
    """The frames of one episode in a video file.

    Attributes:
        path: The file.
        start: Time of the first frame in it (s).
        end: Time at which the episode is over (s); None for the file's end.
        fps: Frames per second.
    """

    def __init__(self, path: Path, start: float, end: float | None, frames: int, fps: float, size: tuple[int, int]):
        """Notes where the frames lie; nothing is read yet.

        Args:
            path: MP4 file.
            start: Time of the first frame in the file (s).
            end: Time at which the episode is over (s); None where the whole file from `start` on is the episode.
            frames: How many frames there must be.
            fps: Frames per second.
            size: Height and width (pixels).
        """
        super().__init__(frames, *size)
        self.path, self.start, self.end, self.fps = path, start, end, fps

    def packets(self) -> Iterator[Any]:
        """Whole groups of pictures around the episode, in decoding order: they decode without anything before them.

        Raises:
            BadInput: The file is damaged, or has not as many frames in that time as the episode.
        """
        with opened_video(self.path) as (container, stream):
            yield from self._packets(container, stream)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """See `packets`; which ones does not depend on where in its file the episode lies."""
        half, seen = 0.5 / self.fps, 0
        # Well before the first frame: times in seconds are no multiples of the file's clock, and FFmpeg looks for key
        # frames by decoding time. Seeking to the start itself would land now on its group of pictures, now beside it.
        container.seek(max(int((self.start - _REORDERED / self.fps) / stream.time_base), 0), stream=stream)
        key: int | None = None
        held: list[Any] = []
        for packet in container.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            time = float(packet.pts * packet.time_base)
            within = time >= self.start - half and (self.end is None or time < self.end - half)
            if packet.is_discard and within:
                raise BadInput(f"{self.path} hides a picture within the episode (an edit list): encode it anew")
            if packet.is_keyframe:
                if self.end is not None and time >= self.end - half and seen >= len(self):
                    break
                # The last one at or before the first frame; in an open group, one that shows later comes before it.
                if key is None or (not seen and time < self.start + half):
                    key, held = packet.pts, []
            # What an open group shows before its key frame is of the group before, and does not decode without it.
            if key is None or packet.pts < key:
                continue
            seen += within
            held.append(packet)
            if seen:
                yield from held
                held = []
        self._count(seen)

    def _count(self, seen: int) -> None:
        if seen != len(self):
            stretch = "" if self.end is None else f" between {self.start:.2f} and {self.end:.2f} s"
            raise BadInput(f"{self.path} has {seen} frames{stretch}, the episode's table {len(self)}")

    def payloads(self) -> Iterator[bytes]:
        """See `StoredImages.payloads`."""
        for packet in self.packets():
            yield bytes(packet)

    def first_encoded(self) -> bytes:
        """See `StoredImages.first_encoded`."""
        with opened_video(self.path) as (container, stream):
            context, packet = stream.codec_context, next(self._packets(container, stream))
            return without_parameter_sets(bytes(packet), context.codec.canonical_name, bytes(context.extradata or b""))

    def _frames(self) -> Iterator[Any]:
        """The episode's decoded frames, in order."""
        half = 0.5 / self.fps
        with opened_video(self.path) as (container, stream):
            for packet in itertools.chain(self._packets(container, stream), [None]):
                # At the end, without a packet: what the decoder still holds.
                for frame in stream.decode(packet):
                    time = float(frame.pts * stream.time_base) if frame.pts is not None else self.start
                    if self.end is not None and time >= self.end - half:
                        return
                    if time >= self.start - half:
                        yield frame

    def middle(self) -> NDArray[np.uint8]:
        """See `StoredImages.middle`; of the group of pictures around the middle, the first of the episode's."""
        half, time = 0.5 / self.fps, self.start + len(self) / 2 / self.fps
        with opened_video(self.path) as (container, stream):
            container.seek(max(round(time / stream.time_base), 0), stream=stream)
            for frame in container.decode(stream):
                shown = float(frame.pts * frame.time_base) if frame.pts is not None else self.start
                if self.end is not None and shown >= self.end - half:
                    break
                if shown >= self.start - half:
                    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                    return image
        return next(iter(self))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        seen = 0
        for frame in self._frames():
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
        """Sets up the naming; the first file is made by the first `append`.

        Args:
            path: Pattern of the files' paths, with `{number}` where the file's number goes.
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
        start: float | None = None
        shift, tick, frame = 0, 0.0, 0
        for packet in video.packets():
            if start is None:
                self._fit(packet)
                shift = self._end - packet.pts
                tick = float(packet.time_base)
                # A recorder's last duration may be anything; a frame's time is what keeps episodes apart.
                frame = max(round(1 / video.fps / tick), 1)
                # A file may begin long after zero: what is before the first frame would reach into the neighbour.
                begins = packet.pts * tick
                start = (begins if begins >= video.start - 0.5 / video.fps else video.start) + shift * tick
            self._end = max(self._end, packet.pts + shift + max(packet.duration or 0, frame))
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = self._stream
            self._size += packet.size
            self._last = packet.dts
            self._container.mux(packet)
        if start is None:
            raise BadInput(f"{video.path} has no frames")
        end = self._end * tick if video.end is None else min(video.end + shift * tick, self._end * tick)
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
