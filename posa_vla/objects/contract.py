"""The contract of a store of objects, which a directory and an S3 bucket fulfil."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from posa_vla.errors import PosaError
from posa_vla.files import write_pieces

# What the name of a folder that is being removed begins with.
REMOVED = ".removed-"
# What a reader holds in memory at once (bytes).
_PIECE = 1 << 20


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it.

    Attributes:
        path: Relative, POSIX.
        size: Bytes.
        modified: When it was last written (POSIX seconds, the store's clock).
    """

    path: str
    size: int
    modified: float


class Objects(Protocol):
    """Objects by relative POSIX path; each appears whole."""

    location: str

    def put(self, path: str, data: bytes) -> None:
        """Writes an object, replacing an older one as a whole."""
        ...

    def get(self, path: str) -> bytes | None:
        """Reads an object; None where there is none."""
        ...

    def read(self, path: str) -> Iterator[bytes] | None:
        """An object in pieces; None where there is none."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the store has an object of this path."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths that begin with `prefix`."""
        ...

    def stored(self, prefix: str = "") -> Iterator[Stored]:
        """The same objects as `list`, in any order, with sizes and times."""
        ...

    def delete(self, path: str) -> None:
        """Removes one object; nothing where there is none."""
        ...

    def put_file(self, path: str, source: Path) -> None:
        """Makes a file that never changes again an object, without holding it in memory."""
        ...

    def put_copy(self, path: str, source: Path) -> None:
        """As `put_file`, but with bytes of its own: what damages the file leaves the object as it is."""
        ...

    def fetch(self, path: str, target: Path) -> None:
        """Writes an object to a file, which appears whole, without holding it in memory.

        Raises:
            PosaError: There is no such object.
        """
        ...

    def remove(self, prefix: str) -> None:
        """Removes every object whose path begins with `prefix`, a folder's name with its slash."""
        ...

    def place(self, path: str) -> Path | None:
        """Where on this machine an object or folder lies, or would lie; None for a store elsewhere."""
        ...


def _fetch(location: str, path: str, pieces: Iterator[bytes] | None, target: Path) -> None:
    if pieces is None:
        raise PosaError(f"{location} has no object {path}")
    write_pieces(target, pieces)
