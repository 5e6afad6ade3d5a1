"""Finished steps by the hash of what went in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posa_vla.errors import BadInput
from posa_vla.files import sha256_json, write_json
from posa_vla.workspace import Finished, Workspace

Status = Literal["done", "reused"]


@dataclass(frozen=True)
class StepResult:
    """What a step gave, and whether it was done now or earlier.

    Attributes:
        name: Name of the step.
        key: Content key of its inputs.
        output: JSON value that the next steps are handed.
        status: `done` in this run or `reused` from an earlier one.
        seconds: Time spent in this run.
    """

    name: str
    key: str
    output: dict[str, Any]
    status: Status
    seconds: float


class Ledger:
    """Finished steps by the hash of what went in: the same inputs never do the work twice."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.home / "ledger"

    def _path(self, name: str, key: str) -> Path:
        return self._folder / name / f"{key}.json"

    @staticmethod
    def key(name: str, inputs: dict[str, Any]) -> str:
        """The content key of a step with these inputs."""
        return sha256_json({"step": name, "inputs": inputs})

    def find(self, name: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Output of a finished step, or None.

        Raises:
            BadInput: Its file is damaged.
        """
        path = self._path(name, self.key(name, inputs))
        return self._read(path).output if path.exists() else None

    def entries(self, name: str = "*") -> Iterator[Finished]:
        """Finished steps, those of one name or all.

        Raises:
            BadInput: A file is damaged.
        """
        for path in sorted(self._folder.glob(f"{name}/*.json")):
            yield self._read(path)

    def _read(self, path: Path) -> Finished:
        try:
            record = json.loads(path.read_bytes())
            step = Finished(record["step"], record["inputs"], record["output"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}): delete it and run again") from None
        if self.key(step.name, step.inputs) != path.stem or not isinstance(step.output, dict):
            raise BadInput(f"{path} does not belong to its inputs: delete it and run again")
        return step

    def step(
        self,
        name: str,
        inputs: dict[str, Any],
        work: Callable[[str], dict[str, Any]],
        *,
        sound: Callable[[dict[str, Any]], bool] = lambda output: True,
    ) -> StepResult:
        """Does a step once for its inputs.

        Args:
            name: Name of the step.
            inputs: JSON values that decide the outcome; their hash is the step's key.
            work: Given the key, does the work and returns its output (JSON values). It must itself continue where an
                earlier, killed call stopped.
            sound: Whether what an earlier output points at is still there; if not, the step is done again.
        """
        start = time.monotonic()
        key, earlier = self.key(name, inputs), self.find(name, inputs)
        if earlier is not None and sound(earlier):
            return StepResult(name, key, earlier, "reused", time.monotonic() - start)
        output = work(key)
        record = {"schema_version": 1, "step": name, "key": key, "inputs": inputs, "output": output}
        write_json(self._path(name, key), record)
        return StepResult(name, key, output, "done", time.monotonic() - start)
