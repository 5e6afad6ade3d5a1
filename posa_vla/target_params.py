"""Where a target's episodes come from and what its gate asks for: parts of `params.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from posa_vla.schema import Closed

# Where evidence comes from: rollouts in the simulator, held-out episodes, trials on robots.
Proof = Literal["simulation", "offline", "robot"]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_one_or_more)]
BatchPrefix = Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")]


def _says(pattern: str, instruction: str) -> bool:
    parts = (re.escape(part) for part in pattern.strip().casefold().split("*"))
    return re.fullmatch(".*".join(parts), instruction.strip().casefold(), re.DOTALL) is not None


class Where(Closed):
    """Which episodes of the store a target learns from; an empty key asks for nothing, all others have to fit.

    An episode fits a key if it fits one of its values. A single value needs no list.
    """

    # Ids of embodiments; an episode of another one than the target's is never learned from.
    embodiment: Names = Field(default_factory=list)
    # Whole instructions; `*` stands for any words, capitals do not count.
    instruction: Names = Field(default_factory=list)
    # Where episodes were recorded.
    source: Annotated[list[Literal["sim", "teleop", "deployment"]], BeforeValidator(_one_or_more)] = Field(
        default_factory=list
    )
    # First digits of batches, as `posa data list` prints them.
    batch: Annotated[list[BatchPrefix], BeforeValidator(_one_or_more)] = Field(default_factory=list)

    def unfit(self, *, embodiment: str, instruction: str, source: str, batch: str) -> Iterator[str]:
        """The keys that an episode does not fit; none for an episode that is learned from."""
        if self.embodiment and embodiment not in self.embodiment:
            yield "embodiment"
        if self.instruction and not any(_says(text, instruction) for text in self.instruction):
            yield "instruction"
        if self.source and source not in self.source:
            yield "source"
        if self.batch and not batch.startswith(tuple(self.batch)):
            yield "batch"


EVERYTHING = Where()


class TargetData(Closed):
    """Where a target's episodes come from."""

    # Whether a retraining has the simulator's expert demonstrate first; null: where the embodiment has a simulator.
    collect: bool | None = None
    # Which episodes of the store it learns from.
    where: Where = EVERYTHING


def _is_start(value: str) -> str:
    if value not in ("scratch", "champion") and not re.fullmatch("[0-9a-f]{8,64}", value):
        raise ValueError("expected scratch, champion, or 8 or more first digits of a bundle's digest")
    return value


StartFrom = Annotated[str, AfterValidator(_is_start)]


def as_ever(value: object) -> bool:
    """Whether a value is what was always so: what is derived with it keeps the key that it has."""
    return value in (EVERYTHING, TargetData(), ["simulation"], "scratch")


def _is_target_name(name: str) -> str:
    """A name that MLflow, TUF, S3 and folders take, and that stands for nothing else beside targets."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "no name of a target, which names a model of MLflow, folders, and paths on the channel: expected letters "
            "a to z, digits, '.', '_' and '-', first a letter or digit, at most 100"
        )
    if name.casefold() in _NOT_TARGETS:
        raise ValueError(f"no name of a target: {_NOT_TARGETS[name.casefold()]} is named so")
    return name


# In small letters, as file systems that do not tell capitals apart see them.
_NOT_TARGETS = {"decisions": "the folder of decisions beside the targets'", "default": "MLflow's own experiment"}
TargetName = Annotated[str, AfterValidator(_is_target_name)]
