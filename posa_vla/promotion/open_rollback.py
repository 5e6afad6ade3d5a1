"""A rollback that was decided and is not finished: what it is for stands on record before anything changes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from posa_vla.errors import BadInput, LaterVersion, Refused
from posa_vla.files import read_json, sync_folder, write_json
from posa_vla.promotion.champion import promotion_log, to_run
from posa_vla.promotion.kept_records import records_folder
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace


class OpenRollback(Closed):
    """`rollback.json` beside the target's promotion log, from the decision until log, channel and alias have followed.

    Attributes:
        target: Deployment target.
        leaves: Digest of the signed record that the rollback leads away from.
        leaves_release: Number of its release.
        to: Number of the release that shall run again.
        reason: Why; goes into the promotion log.
    """

    schema_version: Literal[1] = 1
    target: str
    leaves: str
    leaves_release: int
    to: int
    reason: str

    def record_file(self, workspace: Workspace) -> Path:
        """Where its signed record lies: named by what it replaces, so that each rollback has its own."""
        name = f"{self.leaves[:16]}-to-{self.to}.dsse.json"
        return records_folder(workspace, self.target) / "rollbacks" / name

    def in_words(self) -> str:
        """The rollback in words."""
        return f"the rollback from release {self.leaves_release} to release {self.to} ({self.reason})"

    def overtaken_words(self, running: int) -> str:
        """What to do where another release than the one that it leads away from runs by now."""
        return (
            f"{self.in_words()} was not finished, and release {running} runs by now: say which release shall run, "
            f"`{to_run(self.target)}` ({running} gives the open rollback up)"
        )

    def command(self) -> str:
        """The command that continues it, whatever `params.yaml` has as its target."""
        return f"posa rollback --set target={self.target} --reason {shlex.quote(self.reason)}"


def _file(workspace: Workspace, target: str) -> Path:
    return workspace.promotions / target / "rollback.json"


def open_rollback(workspace: Workspace, target: str) -> OpenRollback | None:
    """The target's rollback that is not finished, or None.

    One that the log has, and that another release has followed since, is finished: nothing is left of it to do.

    Raises:
        BadInput: Its file or the promotion log is damaged.
    """
    path = _file(workspace, target)
    if not path.exists():
        return None
    try:
        opened = parse(OpenRollback, read_json(path), str(path))
    except LaterVersion:
        raise
    except BadInput as error:
        again = f"`rm {shlex.quote(str(path))}`, then say which release shall run: `{to_run(target)}`"
        raise BadInput(f"{error}. What the open rollback was for is lost: {again}") from None
    log = promotion_log(workspace, target)
    digest, champion = _digest(workspace, opened), log.champion()
    followed = champion is not None and champion.record != digest
    return None if followed and any(entry.record == digest for entry in log.releases()) else opened


def is_logged(workspace: Workspace, opened: OpenRollback) -> bool:
    """Whether the promotion log has the rollback, so that only channel and alias have to follow."""
    champion = promotion_log(workspace, opened.target).champion()
    return champion is not None and champion.record == _digest(workspace, opened)


def _digest(workspace: Workspace, opened: OpenRollback) -> str | None:
    from posa_vla.release.record import record_digest

    try:
        return record_digest(opened.record_file(workspace).read_bytes())
    except (FileNotFoundError, Refused):
        return None


def write_open(workspace: Workspace, decided: OpenRollback) -> None:
    """Puts the decision on record; one that is there already is replaced."""
    write_json(_file(workspace, decided.target), decided.model_dump(mode="json"))


def close_rollback(workspace: Workspace, target: str) -> None:
    """Takes the decision off the record: log, channel and alias have followed, or somebody gave it up."""
    path = _file(workspace, target)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
