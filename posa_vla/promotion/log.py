"""The promotion log: append-only, hash-chained, the truth that registry aliases are a view of."""

from __future__ import annotations

import os
import time
from pathlib import Path

from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, sha256_bytes, write_bytes
from posa_vla.json_reader import LARGEST_RECORD, decode_json
from posa_vla.promotion.entries import Entry, Promotion, Release, Rollback, read_entry

_START = "0" * 64


class PromotionLog:
    """One target's log, a JSON line an entry.

    Every entry holds the SHA-256 of the line before it, so that nothing can be changed, left out or put in between
    without the chain breaking.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    def _lines(self) -> list[bytes]:
        """The whole lines; a last line that a crash cut short is left out."""
        if not self._path.exists():
            return []
        return self._path.read_bytes().split(b"\n")[:-1]

    def entries(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            BadInput: The chain is broken, or an entry is none that this code knows; the message names the line.
        """
        previous, entries = _START, list[Entry]()
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = decode_json(line, "entry", limit=LARGEST_RECORD)
                sound = canonical_json(entry) == line and entry["previous"] == previous
            except (BadInput, KeyError, TypeError):
                sound = False
            if not sound:
                raise BadInput(
                    f"promotion log {self._path}, line {number}: the chain is broken, someone or something changed "
                    "the file: restore it from a backup; nothing is promoted on it"
                )
            entries.append(read_entry(entry, f"promotion log {self._path}, line {number}"))
            previous = sha256_bytes(line)
        return entries

    def verify(self) -> int:
        """Checks the chain; returns the number of entries.

        Raises:
            BadInput: The chain is broken.
        """
        return len(self.entries())

    def head(self) -> str:
        """SHA-256 of the last line, in hex; zeros before the first entry.

        Raises:
            BadInput: The chain is broken.
        """
        return self._head(len(self.entries()))

    def heads(self) -> set[str]:
        """Every `head` that the log ever had.

        Raises:
            BadInput: The chain is broken.
        """
        return {_START, *(sha256_bytes(line) for line in self._lines()[: len(self.entries())])}

    def _head(self, count: int) -> str:
        return sha256_bytes(self._lines()[count - 1]) if count else _START

    def append(self, event: Entry) -> Entry:
        """Adds an event, once for its `key`; it is on the disk when this returns.

        Args:
            event: What happened.

        Returns:
            The entry with its place in the chain: the new one, or the one that an earlier call with this key added.

        Raises:
            BadInput: The chain is broken.
        """
        entries = self.entries()
        for entry in entries:
            if entry.key == event.key:
                return entry
        lines = self._lines()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        place = {"number": len(entries) + 1, "time": now, "previous": self._head(len(entries))}
        entry = event.model_copy(update=place)
        whole = b"".join(line + b"\n" for line in lines)
        if not self._path.exists() or len(whole) != self._path.stat().st_size:
            write_bytes(self._path, whole)  # the first line, or a cut line is taken away
        with self._path.open("ab") as file:
            file.write(canonical_json(entry.model_dump(mode="json")) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def releases(self) -> list[Release]:
        """All promotions and rollbacks, oldest first.

        Raises:
            BadInput: The chain is broken, or an entry is of an unknown kind or version.
        """
        return [entry for entry in self.entries() if isinstance(entry, Promotion | Rollback)]

    def champion(self) -> Release | None:
        """The last promotion or rollback, or None before the first.

        Raises:
            BadInput: The chain is broken, or an entry is of an unknown kind or version.
        """
        return next(reversed(self.releases()), None)
