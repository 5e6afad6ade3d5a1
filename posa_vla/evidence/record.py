"""The Evidence record: one row per episode, written once, named by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from posa_vla.files import read_json, sha256_json, write_json
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace


class EpisodeRow(Closed):
    """How one episode went.

    Attributes:
        scene_seed: Together with the suite's task it fixes the scene exactly.
        success: Whether the task was done within the step limit.
        steps: Control steps until success, or until the limit.
        path_length: Metres travelled by the end effector.
        jerk: Root mean square jerk of its path, m per cubed control period; None where it was not measured.
        return_code: `ok`, or why the episode has no valid outcome (such an episode makes the evidence incomplete):
            `nan-action`, `wrong-shape`, `policy-error`, `policy-hangs`, or `crashed`.
    """

    scene_seed: int
    success: bool
    steps: int = Field(ge=0)
    path_length: float = Field(ge=0)
    jerk: float | None = Field(default=None, ge=0)
    return_code: str = "ok"


class Evidence(Closed):
    """What was run, under which conditions, and what came out.

    Attributes:
        policy_digest: Bundle digest of the policy that ran.
        suite: Everything that fixes the conditions: task, objects, limits, executed horizon (JSON values).
        planned: How many episodes the suite asked for; fewer rows than this is missing evidence.
        hardware: Machine description.
        versions: Package -> version.
    """

    schema_version: Literal[1] = 1
    policy_digest: str
    suite: dict[str, Any]
    planned: int
    rows: list[EpisodeRow]
    hardware: str
    versions: dict[str, str]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the record."""
        return sha256_json(self.model_dump(mode="json"))

    def complete(self) -> bool:
        """Whether every planned episode has a valid outcome."""
        return len(self.rows) == self.planned and all(row.return_code == "ok" for row in self.rows)


def evidence_path(workspace: Workspace, digest: str) -> Path:
    """Where an evidence record lies, by its digest."""
    return workspace.evidence / f"{digest}.json"


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Writes the record as JSON."""
    write_json(path, evidence.model_dump(mode="json"))


def read_evidence(path: Path) -> Evidence:
    """Reads a record.

    Raises:
        BadInput: The file is missing, or is no evidence record.
    """
    return parse(Evidence, read_json(path), str(path))
