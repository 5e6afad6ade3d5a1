"""Finished steps by the hash of what went in; each gives a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from posa_vla.errors import BadInput
from posa_vla.files import read_json, sha256_json, write_json
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace

Status = Literal["done", "reused"]
Record = TypeVar("Record", bound=Closed)
# JSON values whose hash a step is known by.
Inputs = Mapping[str, object]
NOTHING: Mapping[str, Closed] = {}


@dataclass(frozen=True)
class Finished:
    """A step that the ledger holds.

    Attributes:
        name: Name of the step.
        inputs: JSON values that its key is the hash of.
        output: JSON values that it gave.
    """

    name: str
    inputs: Inputs
    output: dict[str, Any]


@dataclass(frozen=True)
class StepResult(Generic[Record]):
    """What a step gave, and whether it was done now or earlier.

    Attributes:
        name: Name of the step.
        key: Content key of its inputs.
        record: What the next step is handed.
        status: `done` in this run or `reused` from an earlier one.
        seconds: Time spent in this run.
    """

    name: str
    key: str
    record: Record
    status: Status
    seconds: float


class Ledger:
    """Finished steps by the hash of what went in: the same inputs never do the work twice."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.home / "ledger"

    def _path(self, name: str, key: str) -> Path:
        return self._folder / name / f"{key}.json"

    @staticmethod
    def key(name: str, inputs: Inputs) -> str:
        """The content key of a step with these inputs."""
        return sha256_json({"step": name, "inputs": inputs})

    def find(
        self, name: str, inputs: Inputs, record: type[Record], *, before: Mapping[str, Closed] = NOTHING
    ) -> Record | None:
        """The record of a finished step; None where there is none, or where it is another version's.

        Args:
            name: Name of the step.
            inputs: JSON values that its key is the hash of.
            record: What the step gives.
            before: Fields of the record that hold what the step was handed.

        Raises:
            BadInput: Its file is damaged.
        """
        path = self._path(name, self.key(name, inputs))
        if not path.exists():
            return None
        output = self._read(path).output
        try:
            return parse(record, {**output, **before}, str(path))
        except BadInput:  # whole, and of other fields: another version of posa-vla kept it
            return None

    def entries(self, name: str = "*") -> Iterator[Finished]:
        """Finished steps, those of one name or all.

        Raises:
            BadInput: A file is damaged.
        """
        for path in sorted(self._folder.glob(f"{name}/*.json")):
            yield self._read(path)

    def _read(self, path: Path) -> Finished:
        try:
            record = read_json(path)
            step = Finished(record["step"], record["inputs"], record["output"])
        except BadInput as error:
            raise BadInput(f"{error}: delete it and run again") from None
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}): delete it and run again") from None
        if self.key(step.name, step.inputs) != path.stem or not isinstance(step.output, dict):
            raise BadInput(f"{path} does not belong to its inputs: delete it and run again")
        return step

    def step(
        self,
        name: str,
        inputs: Inputs,
        record: type[Record],
        work: Callable[[str], Record],
        *,
        sound: Callable[[Record], bool] = lambda record: True,
        before: Mapping[str, Closed] = NOTHING,
    ) -> StepResult[Record]:
        """Does a step once for its inputs.

        Args:
            name: Name of the step.
            inputs: JSON values that decide the outcome; their hash is the step's key.
            record: What the step gives; what was kept and does not parse as one counts as not done.
            work: Given the key, does the work and returns the record. It must itself continue where an earlier, killed
                call stopped.
            sound: Whether what an earlier record points at is still there; if not, the step is done again.
            before: Fields of the record that hold what the step was handed. They are neither kept nor part of the key,
                and are put back when the record is read.
        """
        start = time.monotonic()
        key, earlier = self.key(name, inputs), self.find(name, inputs, record, before=before)
        if earlier is not None and sound(earlier):
            return StepResult(name, key, earlier, "reused", time.monotonic() - start)
        made = work(key)
        output = made.model_dump(mode="json", exclude=set(before))
        write_json(
            self._path(name, key), {"schema_version": 1, "step": name, "key": key, "inputs": inputs, "output": output}
        )
        return StepResult(name, key, made, "done", time.monotonic() - start)
