"""A safetensors file that grows row by row."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from posa_vla.errors import BadInput

_NAMES = {"int64": "I64", "float32": "F32", "uint8": "U8", "bool": "BOOL"}


class TensorFileWriter:
    """Collects tensors whose first dimension grows, in memory that does not.

    A safetensors file names all sizes before the first value, so the rows of each tensor go to a file of their own
    first and `finish` puts these together.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}

    def _part(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name}.part")

    def declare(self, name: str, dtype: type, row: tuple[int, ...]) -> None:
        """Announces a tensor, so that it is there even with no rows."""
        self._kinds[name] = (np.dtype(dtype).name, row)
        self._parts[name] = self._part(name).open("wb")
        self._rows[name] = 0

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Adds rows (n, ...) to a declared tensor.

        Raises:
            BadInput: dtype or shape of a row is not what was declared.
        """
        dtype, row = self._kinds[name]
        if rows.dtype.name != dtype or rows.shape[1:] != row:
            raise BadInput(f"{name} has rows {rows.dtype} {rows.shape[1:]}, expected {dtype} {row} as before")
        np.ascontiguousarray(rows).tofile(self._parts[name])
        self._rows[name] += len(rows)

    def rows(self, name: str) -> NDArray[Any]:
        """The rows so far, memory-mapped, read-only."""
        dtype, row = self._kinds[name]
        self._parts[name].flush()
        shape = (self._rows[name], *row)
        if self._rows[name] == 0:
            return np.zeros(shape, dtype)
        return np.memmap(self._part(name), dtype=dtype, mode="r", shape=shape)

    def finish(self) -> None:
        """Writes the safetensors file and removes the parts."""
        # Widest type first: every tensor then starts at a multiple of its element's size.
        names = sorted(self._kinds, key=lambda n: (-np.dtype(self._kinds[n][0]).itemsize, n))
        header: dict[str, Any] = {}
        offset = 0
        for name in names:
            self._parts[name].close()
            dtype, row = self._kinds[name]
            size = self._part(name).stat().st_size
            header[name] = {
                "dtype": _NAMES[dtype],
                "shape": [self._rows[name], *row],
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with self._path.open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                with self._part(name).open("rb") as part:
                    shutil.copyfileobj(part, out, 1 << 22)
                os.unlink(self._part(name))
