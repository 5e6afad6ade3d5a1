"""PNG bytes of small images."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from posa_vla.errors import BadInput

_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
# PNG's filter type of a row stored as the difference to the row above.
_UP = 2


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


def decode_png(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 (height, width, 3), RGB, of PNG bytes.

    Raises:
        BadInput: Not a PNG, damaged, or of another size; the size is looked at before anything is unpacked.
    """
    try:
        own = _decode_own(data, height, width)
        if own is not None:
            return own
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (width, height):
                raise BadInput(f"image is {image.size[0]} x {image.size[1]} px, expected {width} x {height}")
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, zlib.error, struct.error) as error:
        raise BadInput(f"image cannot be decoded: {error}") from None
