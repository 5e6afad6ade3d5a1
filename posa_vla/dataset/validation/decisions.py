"""Episodes that are kept out of training, and people's decisions to let one in or to take one out of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from posa_vla.dataset.validation.findings import Finding
from posa_vla.dataset.validation.validate import validate
from posa_vla.episodes.store.declared import declared_embodiments
from posa_vla.episodes.store.episode_store import EpisodeStore
from posa_vla.episodes.store.quarantine import Release, by_prefix
from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class QuarantinedEpisode(Closed):
    """An episode that is kept out of training, and why.

    Attributes:
        episode: Its digest; of an episode that could not be read, its key in quarantine.
        batch: Digest of its batch, or that key.
        readable: Whether it can be read at all.
        findings: The severe findings that nobody released.
    """

    episode: str
    batch: str
    readable: bool
    findings: list[Finding] = Field(default_factory=list)


def quarantined_episodes(workspace: Workspace, params: Params, declarations: Path) -> list[QuarantinedEpisode]:
    """The episodes that are kept out of training.

    Args:
        workspace: Workspace of the store.
        params: The rules.
        declarations: Folder of the embodiments' declarations, see `declared_embodiments`.

    Raises:
        BadInput: The store is empty.
    """
    report = validate(
        workspace.store,
        params.validation,
        declared=declared_embodiments(EpisodeStore(workspace.store), params, declarations),
        validation_fraction=params.prepare.validation_fraction,
        cache=workspace.validated,
    )
    rows: dict[str, QuarantinedEpisode] = {}
    for finding in report.findings:
        if finding.severity == "severe" and not finding.released:
            key = finding.digest or finding.batch
            readable = bool(finding.digest) and finding.digest != finding.batch
            row = rows.setdefault(key, QuarantinedEpisode(episode=key, batch=finding.batch, readable=readable))
            row.findings.append(finding)
    return list(rows.values())


def release_episode(workspace: Workspace, params: Params, declarations: Path, prefix: str, reason: str) -> Release:
    """Lets an episode into training in spite of its severe findings; findings of other rules still count later.

    Args:
        workspace: Workspace whose store holds the episode.
        params: Rules by which it was quarantined.
        declarations: Folder of the embodiments' declarations.
        prefix: First digits of its digest.
        reason: Why; stays on record.

    Raises:
        BadInput: No such episode is quarantined, there is no reason, or it cannot be read at all.
    """
    rows = {row.episode: row for row in quarantined_episodes(workspace, params, declarations)}
    episode = by_prefix(prefix, rows, "quarantined episode")
    findings = rows[episode].findings
    rules = [finding.rule for finding in findings]
    unreadable = {"batch-readable", "episode-readable", "content", "table", "images", "finite"} & set(rules)
    if unreadable or not rows[episode].readable:
        raise BadInput(f"episode {episode[:12]} cannot be released: {findings[0].value}; {findings[0].remedy}")
    with workspace.lock("a release from quarantine", "data.lock", wait=60):
        return EpisodeStore(workspace.store).quarantine.release(episode, rules, reason)


def remove_from_store(workspace: Workspace, prefix: str, reason: str) -> dict[str, Any]:
    """Takes a batch out of the store, or closes what is kept of an episode that could not be read.

    Args:
        workspace: Workspace of the store.
        prefix: First digits of the batch, or of the episode's key in quarantine.
        reason: Why; stays on record.

    Returns:
        `removed`: its digest or key; `folder`: where it lies.

    Raises:
        BadInput: No batch or unreadable episode has this name, or the reason is missing.
        Busy: Another run changes the store.
    """
    with workspace.lock("taking something out of the store", "data.lock", wait=60):
        store = EpisodeStore(workspace.store)
        kept, batches = store.quarantine.kept().keys() - store.replaced().keys(), store.batches()
        name = by_prefix(prefix, [*batches, *kept], "batch or unreadable episode")
        if name in batches:
            return {"removed": name, "folder": str(store.remove(name, reason))}
        if not reason.strip():
            raise BadInput("closing what is kept of an episode needs a reason: --reason TEXT")
        store.quarantine.replace(name, "", reason.strip())
        return {"removed": name, "folder": str(store.root / "quarantine" / name)}
