"""The promotion log: append-only, hash-chained, the truth that registry aliases are a view of."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, sha256_bytes, write_bytes

_START = "0" * 64


class PromotionLog:
    """One target's log, a JSON line an entry.

    Every entry holds the SHA-256 of the line before it, so that nothing can be changed, left out or put in between
    without the chain breaking.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _lines(self) -> list[bytes]:
        """Whole lines; one that a crash cut short is not an entry."""
        if not self._path.exists():
            return []
        return self._path.read_bytes().split(b"\n")[:-1]

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first.

        Raises:
            BadInput: The chain is broken; the message names the line.
        """
        previous, entries = _START, []
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = json.loads(line)
                sound = canonical_json(entry) == line and entry["previous"] == previous
            except (ValueError, KeyError, TypeError):
                sound = False
            if not sound:
                raise BadInput(
                    f"promotion log {self._path}, line {number}: the chain is broken, someone or something changed "
                    "the file: restore it from a backup; nothing is promoted on it"
                )
            entries.append(entry)
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

    def _head(self, count: int) -> str:
        return sha256_bytes(self._lines()[count - 1]) if count else _START

    def append(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Adds an event, once for its `key`; it is on the disk when this returns.

        Args:
            event: JSON values with at least `key` (idempotency) and `kind` (`promote`, `reject`, `no decision`,
                `rollback`).

        Returns:
            The entry: the new one, or the one that an earlier call with this key added.

        Raises:
            BadInput: The chain is broken.
        """
        entries = self.entries()
        for entry in entries:
            if entry["key"] == event["key"]:
                return entry
        lines = self._lines()
        entry = {
            **event,
            "schema_version": 1,
            "number": len(entries) + 1,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "previous": self._head(len(entries)),
        }
        whole = b"".join(line + b"\n" for line in lines)
        if not self._path.exists() or len(whole) != self._path.stat().st_size:
            write_bytes(self._path, whole)  # the first line, or a cut line is taken away
        with self._path.open("ab") as file:
            file.write(canonical_json(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def champion(self) -> dict[str, Any] | None:
        """The last promotion or rollback, or None before the first."""
        return next((e for e in reversed(self.entries()) if e["kind"] in {"promote", "rollback"}), None)
