"""Who is champion: the promotion log, held against the signed records and against the channel."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.errors import BadInput
from posa_vla.promotion.entries import Release
from posa_vla.promotion.log import PromotionLog
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import ReleaseRecord


def promotions(workspace: Workspace, purpose: str) -> AbstractContextManager[None]:
    """Locks the channel and the promotion logs; each holder of the lock frees it within seconds."""
    return workspace.lock(purpose, "promotions.lock", wait=60)


def has_published(workspace: Workspace) -> bool:
    """Whether this workspace ever opened a channel; opening one makes keys, and root metadata on the channel."""
    return (workspace.keys / "root.json").exists()


def promotion_log(workspace: Workspace, target: str) -> PromotionLog:
    """The target's promotion log: the truth about who is champion."""
    return PromotionLog(workspace.promotions / target / "log.jsonl")


def champion_bundle(workspace: Workspace, target: str) -> str | None:
    """Bundle digest of the target's champion, or None before the first promotion."""
    entry = promotion_log(workspace, target).champion()
    return None if entry is None else entry.bundle


def records_folder(workspace: Workspace, target: str) -> Path:
    """The target's release records, `<decision digest>.dsse.json`, and `rollbacks/`; some wait for approval."""
    return workspace.promotions / target / "records"


def signed_records(workspace: Workspace, target: str, shown: bytes | None) -> list[ReleaseRecord]:
    """Every release record of the target that was ever signed, and is still at hand.

    Args:
        workspace: Of the publisher.
        target: Deployment target.
        shown: The envelope on the channel, or None.
    """
    from posa_vla.release.record import read_record

    kept = [path.read_bytes() for path in sorted(records_folder(workspace, target).rglob("*.dsse.json"))]
    return [read_record(envelope) for envelope in [*kept, *([shown] if shown else [])]]


def next_sequence(records: list[ReleaseRecord]) -> int:
    """A sequence above that of every record; a record of version 1 has none, and counts by its release's number."""
    return max((record.sequence or record.release for record in records), default=0) + 1


def withdrawn(workspace: Workspace, target: str, bundle: str) -> str | None:
    """Why a bundle was rolled back from, or None; another rollback, to its release, brings it back."""
    reasons: dict[str, str] = {}
    champion = None
    for entry in promotion_log(workspace, target).releases():
        if entry.kind == "rollback" and champion is not None:
            reasons[champion] = "; ".join(entry.reasons)
        champion = entry.bundle
        reasons.pop(champion, None)
    return reasons.get(bundle)


def _signed_record(workspace: Workspace, target: str, entry: Release, publisher: str) -> bytes:
    """The envelope behind a log entry, which says what its signed record says."""
    from posa_vla.release.record import read_record, record_digest, signed_by

    for path in sorted(records_folder(workspace, target).rglob("*.dsse.json")):
        envelope = path.read_bytes()
        if record_digest(envelope) != entry.record:
            continue
        record = read_record(envelope)
        same = (record.bundle_digest, record.release) == (entry.bundle, entry.release)
        if same and signed_by(envelope, publisher):
            return envelope
    raise BadInput(
        f"the promotion log of target {target!r} names release {entry.release}, and no signed record says the same: "
        f"restore {workspace.promotions / target} from a backup"
    )


def require_anchored_log(workspace: Workspace, target: str, publisher: Publisher) -> None:
    """Holds the target's log against all its signed records and against what its channel published.

    Raises:
        BadInput: The log was changed or cut; see `require_anchored`.
        Refused: What the channel published does not verify.
    """
    from posa_vla.promotion.anchors import require_anchored

    kept = [path.read_bytes() for path in sorted(records_folder(workspace, target).rglob("*.dsse.json"))]
    published = publisher.published(target, kept)
    require_anchored(promotion_log(workspace, target), target, kept, published, publisher.publisher_key())


def settle(workspace: Workspace, target: str) -> bool:
    """Holds log, signed records and channel against each other; puts on the channel what a killed release left undone.

    Returns:
        Whether anything was published, or put back on a channel that showed less than was signed.

    Raises:
        BadInput: The log was changed or cut: it does not know what the channel holds, or says what no record says.
    """
    from posa_vla.release.bundle import Bundle
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import record_digest

    if not has_published(workspace):
        return False
    with promotions(workspace, "a look at the champion"):
        publisher = Publisher(workspace.channel, workspace.keys)
        log = promotion_log(workspace, target)
        put_back = publisher.settle()
        envelope, champion = publisher.current(target), log.champion()
        shown = None if envelope is None else record_digest(envelope)
        if shown is not None and all(entry.record != shown for entry in log.releases()):
            raise BadInput(
                f"the channel {workspace.channel} holds a release of target {target!r} that its promotion log does not "
                f"know: restore {workspace.promotions / target} from a backup; nothing is promoted on top of it"
            )
        require_anchored_log(workspace, target, publisher)
        if champion is None:
            return put_back
        wanted = _signed_record(workspace, target, champion, publisher.publisher_key())
        if shown == champion.record:
            return put_back
        publisher.publish(target, wanted, Bundle(champion.bundle, workspace.bundles / champion.bundle))
        return True
