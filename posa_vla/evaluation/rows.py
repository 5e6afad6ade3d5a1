"""Finished episodes of an evaluation, and the evidence that they make."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from contextlib import suppress

from posa_vla.evidence.record import EpisodeRow, Evidence
from posa_vla.evidence.suite import Suite
from posa_vla.files import canonical_json, sha256_json
from posa_vla.machine import processors
from posa_vla.objects.contract import Objects
from posa_vla.schema import parse_json

_VERSIONED = ("posa-vla", "torch", "mujoco", "mink", "numpy")


class Rows:
    """Finished episodes, one object each, so that a killed evaluation continues, and one on more scenes goes on.

    Another policy's never count, nor those of other conditions.
    """

    def __init__(self, objects: Objects, folder: str, digest: str, suite: Suite) -> None:
        self._objects = objects
        conditions = {name: value for name, value in suite.describe().items() if name != "seeds"}
        self._folder = f"{folder}/rows/{sha256_json({'policy': digest, 'suite': conditions})[:16]}"

    def _path(self, seed: int) -> str:
        return f"{self._folder}/{seed}.json"

    def add(self, row: EpisodeRow) -> None:
        """Keeps a valid outcome; an episode without one is run again by the next call."""
        if row.return_code == "ok":
            self._objects.put(self._path(row.scene_seed), canonical_json(row.model_dump(mode="json")))

    def count(self) -> int:
        """Number of finished episodes."""
        return len(self._objects.list(f"{self._folder}/"))

    def find(self, seeds: Sequence[int]) -> dict[int, EpisodeRow]:
        """Scene seed -> row of the episodes that are finished."""
        there = set(self._objects.list(f"{self._folder}/"))
        rows = {}
        for seed in seeds:
            data = self._objects.get(self._path(seed)) if self._path(seed) in there else None
            if data is not None:
                rows[seed] = parse_json(EpisodeRow, data, self._path(seed))
        return rows


def versions() -> dict[str, str]:
    """Package -> version, of those that decide how an episode goes."""
    found = {}
    for name in _VERSIONED:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def hardware() -> str:
    """This machine in words."""
    return f"{platform.machine()}, {processors()} CPUs, {platform.system()}"


def gather(digest: str, suite: Suite, rows: dict[int, EpisodeRow]) -> Evidence:
    """The evidence record of a suite's rows, in the order of its seeds."""
    return Evidence(
        policy_digest=digest,
        suite=suite.describe(),
        planned=len(suite.seeds),
        rows=[rows[seed] for seed in suite.seeds if seed in rows],
        hardware=hardware(),
        versions=versions(),
    )
