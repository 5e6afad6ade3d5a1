"""Whose signatures count for a robot, and the folder that hands it over."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from posa_vla.errors import BadInput
from posa_vla.files import read_json, write_bytes, write_json
from posa_vla.json_reader import LARGEST_RECORD
from posa_vla.release.keys import canonical_keys, require_sound_root
from posa_vla.schema import Closed, parse


class Trust(Closed):
    """Whose signatures count for a robot, and what it is; handed over out of band.

    Attributes:
        publishers: Public keys (hex); one of them must have signed.
        approvers: Public keys (hex) of people.
        approvals: How many of them must have signed as well.
        simulated: Whether the robot exists in simulation alone; only then may `approvals` be 0.
    """

    schema_version: Literal[1] = 1
    target: str
    embodiment_id: str
    embodiment_digest: str
    publishers: list[str] = Field(min_length=1)
    approvers: list[str] = Field(default_factory=list)
    approvals: int = Field(default=0, ge=0)
    simulated: bool = False

    @field_validator("publishers", "approvers")
    @classmethod
    def _are_keys(cls, value: list[str]) -> list[str]:
        return canonical_keys(value)

    @model_validator(mode="after")
    def _nobody_approves_their_own(self) -> Trust:
        if set(self.publishers) & set(self.approvers):
            raise ValueError("a publisher's key is among the approvers: nobody approves what they publish")
        return self


def write_trust(folder: Path, root: bytes, trust: Trust) -> None:
    """Writes what a robot is handed, `root.json` and `trust.json`: no secrets. Where `root.json` is, both are whole."""
    write_json(folder / "trust.json", trust.model_dump(mode="json"))
    write_bytes(folder / "root.json", root)


def read_trust(folder: Path) -> tuple[bytes, Trust]:
    """The channel's root metadata, and the keys that count.

    Raises:
        BadInput: The folder lacks `root.json` or `trust.json`, or a file is damaged.
    """
    root, path = folder / "root.json", folder / "trust.json"
    if not root.is_file():
        raise BadInput(f"{folder} holds no trust (root.json, trust.json)")
    data = root.read_bytes()
    require_sound_root(data, str(root))
    return data, parse(Trust, read_json(path, limit=LARGEST_RECORD), str(path))
