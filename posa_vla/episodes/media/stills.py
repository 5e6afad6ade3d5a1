"""Single images as bytes: PNG written and read, JPEG read, and columns of them in data tables."""

from __future__ import annotations

import io
import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from posa_vla.episodes.media.images import LARGEST_PIXELS, StoredImages
from posa_vla.episodes.outside_files import DAMAGED, damage, file_inside, pointer
from posa_vla.errors import BadInput

_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
# PNG's filter type of a row stored as the difference to the row above.
_UP = 2
# What Pillow raises on damaged images, and on headers that claim enormous ones.
_UNDECODABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, struct.error)

# First bytes of what else is found in image columns.
_OTHERS = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\x93NUMPY": "a NumPy array",
    b"v/1\x01": "OpenEXR",
    b"version https://git-lfs": "a Git LFS pointer, run `git lfs pull` in the dataset",
}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _start(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Lossless PNG of uint8 (H, W, 3).

    Written out here because Pillow spends four times as long on a 64 px image (0.22 ms against 0.05 ms) for the same
    size: one filter for all rows and zlib's fastest level.
    """
    height, width, _ = image.shape
    rows = image.reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return _start(height, width) + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 1)) + _END


def _decode_own(data: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    """The image, where `data` is laid out as `encode_png` does; else None. Three times as fast as Pillow."""
    start = _start(height, width)
    body = data[len(start) + 8 : -len(_END) - 4]
    if not data.startswith(start) or data[len(start) :] != _chunk(b"IDAT", body) + _END:
        return None
    size = height * (1 + 3 * width)
    unpacker = zlib.decompressobj()
    filtered = np.frombuffer(unpacker.decompress(body, size), np.uint8)
    if filtered.size != size or not unpacker.eof:
        return None
    filtered = filtered.reshape(height, -1)
    if (filtered[:, 0] != _UP).any():
        return None
    image: NDArray[np.uint8] = np.add.accumulate(filtered[:, 1:], axis=0, dtype=np.uint8)
    return image.reshape(height, width, 3)


def deep_still(data: bytes) -> str:
    """What an encoded picture is that has one channel of more than 8 bits; empty for every other one."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f"{image.format} with pixels {image.mode}" if _is_deep(image) else ""
    except _UNDECODABLE:
        return ""


def _is_deep(image: Image.Image) -> bool:
    """Distances in millimetres, as a rule. Pillow would clip them to 255: white, from a quarter of a metre on."""
    return image.mode.startswith(("I", "F"))


def _require_colours(image: Image.Image) -> None:
    if _is_deep(image):
        raise BadInput(f"image has one channel of more than 8 bits ({image.mode}): depth, expected a colour camera")


def _unknown(data: bytes) -> BadInput:
    """What bytes are that cannot be decoded, in our words: Pillow calls them by an address in memory."""
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        what = f"it is damaged ({len(data)} bytes that do not fit together), or larger than any camera's"
    else:
        kind = next((name for start, name in _OTHERS.items() if data.startswith(start)), "")
        what = (
            f"it is neither PNG nor JPEG; its {len(data)} bytes begin with {data[:12]!r}{f': {kind}' if kind else ''}"
        )
    return BadInput(f"image cannot be decoded: {what}")


def decode_still(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 (height, width, 3), RGB, of PNG or JPEG bytes.

    Raises:
        BadInput: The bytes are neither PNG nor JPEG, are damaged, or claim another size, which is checked first, or are
            no colours.
    """
    try:
        own = _decode_own(data, height, width)
        if own is not None:
            return own
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            if image.size != (width, height):
                raise BadInput(f"image is {image.size[0]} x {image.size[1]} px, expected {width} x {height}")
            _require_colours(image)
            return np.asarray(image.convert("RGB"))
    except (*_UNDECODABLE, zlib.error):
        raise _unknown(data) from None


def still_size(data: bytes) -> tuple[int, int]:
    """Height and width (pixels) that PNG or JPEG bytes claim.

    Raises:
        BadInput: The bytes are neither PNG nor JPEG, or claim a picture larger than any camera's, or no colours.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            width, height = image.size
            _require_colours(image)
    except _UNDECODABLE:
        raise _unknown(data) from None
    if not 0 < height * width <= LARGEST_PIXELS:
        raise BadInput(f"image has {width} x {height} pixels, expected at most {LARGEST_PIXELS}")
    return height, width


# Rows of a column that are in memory at once.
_ROWS = 32
# Decoded images of one episode's camera that may be in memory at once (bytes).
_DECODED = 4_000_000_000


class StoredStills(StoredImages):
    """Rows of a data table's image column, read a few at a time."""

    def __init__(
        self, folder: Path, file: Path, column: str, rows: range, size: tuple[int, int], groups: list[int] | None = None
    ) -> None:
        """Notes where the images lie; nothing is read yet.

        Args:
            folder: The dataset, which paths in the column are relative to.
            file: Parquet file; the column is struct<bytes, path>, or bytes alone.
            column: Its name.
            rows: Which rows of the row groups.
            size: Height and width (pixels).
            groups: Row groups, in order; all of them by default.
        """
        super().__init__(len(rows), *size)
        self._folder, self._file, self._column, self._rows, self._groups = folder, file, column, rows, groups

    def payloads(self) -> Iterator[bytes]:
        """See `StoredImages.payloads`."""
        number = 0
        try:
            with pq.ParquetFile(self._file) as file:
                for batch in file.iter_batches(_ROWS, row_groups=self._groups, columns=[self._column]):
                    if number + len(batch) > self._rows.start:
                        skipped = max(self._rows.start - number, 0)
                        for stored in batch.column(0)[skipped : self._rows.stop - number].to_pylist():
                            yield self._bytes(stored)
                    number += len(batch)
                    if number >= self._rows.stop:
                        return
        except DAMAGED:
            raise BadInput(f"{self._file}, column {self._column}: the file {damage(self._file)}") from None
        raise BadInput(f"{self._file} has {number} rows, expected at least {self._rows.stop}")

    def _bytes(self, stored: Any) -> bytes:
        if isinstance(stored, bytes):
            return stored
        if isinstance(stored, dict):
            if stored.get("bytes"):
                return bytes(stored["bytes"])
            stored = stored.get("path")
        if isinstance(stored, str):
            return self._of_file(stored)
        raise BadInput(f"{self._file}: column {self._column} holds neither image bytes nor a path")

    def _of_file(self, relative: str) -> bytes:
        path = file_inside(self._folder, relative)
        if not path.exists() and "\\" in relative:
            path = file_inside(self._folder, relative.replace("\\", "/"))  # as Windows writes it
        if what := pointer(path):
            raise BadInput(f"{path} is {what}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise BadInput(f"image {path} of column {self._column} cannot be read: {error.strerror}") from None

    def middle(self) -> NDArray[np.uint8]:
        """See `StoredImages.middle`."""
        frames, height, width, _ = self.shape
        return decode_still(next(itertools.islice(self.payloads(), frames // 2, None)), height, width)

    def pixels(self) -> NDArray[np.uint8]:
        """All images, decoded: the digest of an episode that was recorded here is made of their pixels.

        Raises:
            BadInput: An image cannot be decoded, or all images together would fill the memory.
        """
        if math.prod(self.shape) > _DECODED:
            raise BadInput(
                f"{self._column}: {self.shape} pixels are {math.prod(self.shape) / 1e9:.1f} GB at once; remove "
                "meta/posa.json to keep the images as they are encoded"
            )
        images = np.empty(self.shape, np.uint8)
        for frame, image in enumerate(self):
            images[frame] = image
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        _, height, width, _ = self.shape
        for frame, data in enumerate(self.payloads()):
            try:
                yield decode_still(data, height, width)
            except BadInput as error:
                raise BadInput(f"{self._file}, {self._column}, frame {frame}: {error}") from None
