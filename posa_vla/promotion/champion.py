"""Who is champion: the promotion log, held against the signed records and against the channel."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from posa_vla.errors import BadInput, PosaError
from posa_vla.promotion.entries import Release
from posa_vla.promotion.kept_records import kept_records
from posa_vla.promotion.log import PromotionLog
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import ReleaseRecord


def promotions(workspace: Workspace, purpose: str) -> AbstractContextManager[None]:
    """Locks the channel and the promotion logs; each holder of the lock frees it within seconds."""
    return workspace.lock(purpose, "promotions.lock", wait=60)


def has_released(workspace: Workspace) -> bool:
    """Whether robots may have been handed a trust, or a log names a release: keys that are missing then were lost."""
    if any(workspace.promotions.glob("*/trust/root.json")):
        return True
    return bool(released_targets(workspace))


def released_targets(workspace: Workspace) -> list[str]:
    """Targets whose log names a release, or is damaged and may have named one, whatever `params.yaml` says by now."""
    paths = sorted(workspace.promotions.glob("*/log.jsonl"))
    return [path.parent.name for path in paths if _names_a_release(PromotionLog(path))]


def _names_a_release(log: PromotionLog) -> bool:
    try:
        return bool(log.releases())
    except BadInput:  # damaged, perhaps another target's: something stood in it
        return True


def has_published(workspace: Workspace) -> bool:
    """Whether this workspace ever opened a channel; opening one makes keys, and root metadata on the channel."""
    return (workspace.keys / "root.json").exists() or has_released(workspace)


def open_publisher(workspace: Workspace) -> Publisher:
    """The workspace's publisher; its keys are made before the first release, and never after it.

    Raises:
        BadInput: A key is lost, or open to others.
        Refused: The channel was made with other keys, or the root that robots trust is lost.
    """
    from posa_vla.release.publisher import Publisher

    return Publisher(workspace.channel, workspace.keys, begun=has_released(workspace))


def promotion_log(workspace: Workspace, target: str) -> PromotionLog:
    """The target's promotion log: the truth about who is champion."""
    return PromotionLog(workspace.promotions / target / "log.jsonl")


def champion_bundle(workspace: Workspace, target: str) -> str | None:
    """Bundle digest of the target's champion, or None before the first promotion."""
    entry = promotion_log(workspace, target).champion()
    return None if entry is None else entry.bundle


def to_run(target: str, release: int | None = None) -> str:
    """The command that runs an earlier release of a target again, whichever target `params.yaml` names."""
    return f"posa rollback --to {'N' if release is None else release} --reason TEXT --set target={target}"


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
    from posa_vla.release.record import read_record, record_digest

    kept, _ = kept_records(workspace, target, publisher)
    for envelope in kept.values():
        if record_digest(envelope) != entry.record:
            continue
        record = read_record(envelope)
        if (record.bundle_digest, record.release) == (entry.bundle, entry.release):
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

    key = publisher.publisher_key()
    kept = list(kept_records(workspace, target, key)[0].values())
    require_anchored(promotion_log(workspace, target), target, kept, publisher.published(target, kept), key)


def unpublished(workspace: Workspace, target: str, publisher: Publisher) -> tuple[Release, bytes] | None:
    """Holds log, signed record and channel against each other; changes nothing.

    Returns:
        The log's champion and its envelope where the channel shows another release, or None.

    Raises:
        BadInput: The log was changed or cut: it does not know what the channel holds, or says what no record says.
    """
    from posa_vla.release.record import record_digest

    log, envelope = promotion_log(workspace, target), publisher.current(target)
    champion = log.champion()
    shown = None if envelope is None else record_digest(envelope)
    if shown is not None and all(entry.record != shown for entry in log.releases()):
        raise BadInput(
            f"the channel {workspace.channel} holds a release of target {target!r} that its promotion log does not "
            f"know: restore {workspace.promotions / target} from a backup (without one: docs/security.md, lost keys); "
            "nothing is promoted on top of it"
        )
    require_anchored_log(workspace, target, publisher)
    if champion is None:
        return None
    wanted = _signed_record(workspace, target, champion, publisher.publisher_key())
    return None if shown == champion.record else (champion, wanted)


def behind(workspace: Workspace, target: str) -> bool:
    """Whether the channel shows another release than the promotion log's champion.

    Raises:
        BadInput: See `unpublished`.
    """
    if not has_published(workspace):
        return False
    return unpublished(workspace, target, open_publisher(workspace)) is not None


def settle(workspace: Workspace, target: str) -> bool:
    """Holds log, signed records and channel against each other; puts on the channel what a killed release left undone.

    Returns:
        Whether anything was published, or put back on a channel that showed less than was signed.

    Raises:
        BadInput: See `unpublished`.
        PosaError: What was left undone cannot be done, because the bundle is damaged wherever it lies.
    """
    from posa_vla.release.bundle_store import sound_bundle

    if not has_published(workspace):
        return False
    with promotions(workspace, "a look at the champion"):
        publisher = open_publisher(workspace)
        put_back = publisher.settle()
        undone = unpublished(workspace, target, publisher)
        if undone is None:
            return put_back
        champion, wanted = undone
        try:
            bundle = sound_bundle(workspace, target, champion.bundle, publisher)
        except PosaError as error:
            raise PosaError(
                f"release {champion.release} of target {target!r} is in the promotion log and not on the channel: "
                f"{error}; or run another release: `{to_run(target)}`"
            ) from None
        publisher.publish(target, wanted, bundle)
        return True
