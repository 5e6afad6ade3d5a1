"""What `posa doctor` finds of releases: whether log, channel and alias say the same, and the command that continues."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from posa_vla.cli.doctor.finding import CONNECT, READ, Finding

if TYPE_CHECKING:
    from posa_vla.promotion.entries import Release
    from posa_vla.release.publisher import Publisher
    from posa_vla.workspace import Workspace

_CONTINUE = "`posa promote --refresh` brings it to what the promotion log says"


def look_at_releases(workspace: Workspace) -> Finding:
    """Holds every target's log, records, channel and alias against each other; changes no release.

    Raises:
        PosaError: The publisher's keys are lost or open to others, or a log or record is damaged.
    """
    from posa_vla.promotion.champion import open_publisher, promotion_log

    champions = {
        path.parent.name: champion
        for path in sorted(workspace.promotions.glob("*/log.jsonl"))
        if (champion := promotion_log(workspace, path.parent.name).champion()) is not None
    }
    if not champions:
        return Finding("releases", "absent", "nothing released yet")
    with workspace.lock("a look at the releases", "promotions.lock", wait=5):
        publisher = open_publisher(workspace)
        faults = [
            f"{target}: {fault}"
            for target, champion in champions.items()
            for fault in _faults(workspace, target, champion, publisher)
        ]
    if faults:
        return Finding("releases", "unsound", "; ".join(faults))
    words = ", ".join(f"{target} runs release {champion.release}" for target, champion in champions.items())
    return Finding("releases", "sound", f"{words}; log, records, channel and alias agree")


def _faults(workspace: Workspace, target: str, champion: Release, publisher: Publisher) -> Iterator[str]:
    from posa_vla.promotion.champion import unpublished
    from posa_vla.promotion.kept_records import kept_records
    from posa_vla.promotion.open_rollback import is_logged, open_rollback

    opened, behind = open_rollback(workspace, target), unpublished(workspace, target, publisher) is not None
    logged = opened is not None and is_logged(workspace, opened)
    if opened is not None and not logged and opened.leaves != champion.record:
        yield opened.overtaken_words(champion.release)
    elif opened is not None:
        path = opened.record_file(workspace)
        waits = f"; if it waits for approvals, first `posa approve {shlex.quote(str(path))} --key FILE`"
        yield (
            f"{opened.in_words()} is not finished: `{opened.command()}` continues it"
            f"{waits if path.exists() and not logged else ''}"
        )
    elif behind:
        yield f"the channel does not show release {champion.release}, which the promotion log names: {_CONTINUE}"
    elif (alias := _alias(workspace, target, champion)) is not None:
        yield f"alias champion shows {alias}, the promotion log version {champion.model_version}: {_CONTINUE}"
    for stray in kept_records(workspace, target, publisher.publisher_key())[1]:
        yield f"{stray} is no record that this publisher signed, and counts for nothing: take it away"


def _alias(workspace: Workspace, target: str, champion: Release) -> str | None:
    """What the alias shows where that is wrong; None where it cannot be known: the servers' own looks say why."""
    if importlib.util.find_spec("mlflow") is None:
        return None
    import requests

    uri = workspace.mlflow_uri
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=(CONNECT, READ))
        except (requests.RequestException, ValueError):
            return None
    from posa_vla.promotion.registry import champion_version, is_registered

    shown = champion_version(uri, target)
    if shown == champion.model_version or not (shown or is_registered(uri, target, champion.model_version)):
        return None
    return f"version {shown}" if shown else "nothing"
