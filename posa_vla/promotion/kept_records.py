"""The signed records that a workspace keeps of a target, and what lies among them and is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.errors import BadInput, Refused
from posa_vla.promotion.log import PromotionLog
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.record import ReleaseRecord


def records_folder(workspace: Workspace, target: str) -> Path:
    """The target's release records, `<decision digest>.dsse.json`, and `rollbacks/`; some wait for approval."""
    return workspace.promotions / target / "records"


def kept_records(workspace: Workspace, target: str, publisher: str) -> tuple[dict[Path, bytes], list[Path]]:
    """What lies in the target's records folder.

    Args:
        workspace: Of the publisher.
        target: Deployment target.
        publisher: Public key (hex) that signs its records.

    Returns:
        The envelopes that the publisher signed, by path; and the paths of what is no such record, which counts for
        nothing: a stray copy, a draft of an editor, somebody else's record.
    """
    from posa_vla.release.record import signed_by

    kept, strays = dict[Path, bytes](), list[Path]()
    for path in sorted(records_folder(workspace, target).rglob("*.dsse.json")):
        try:
            envelope = path.read_bytes()
            sound = signed_by(envelope, publisher)
        except (OSError, Refused):
            sound = False
        if sound:
            kept[path] = envelope
        else:
            strays.append(path)
    return kept, strays


def signed_records(workspace: Workspace, target: str, publisher: str, shown: bytes | None) -> list[ReleaseRecord]:
    """Every release record of the target that was ever signed, and is still at hand.

    Args:
        workspace: Of the publisher.
        target: Deployment target.
        publisher: Public key (hex) that signs its records.
        shown: The envelope on the channel, or None.
    """
    from posa_vla.release.record import read_record

    kept, _ = kept_records(workspace, target, publisher)
    records = [read_record(envelope) for envelope in [*kept.values(), *([shown] if shown else [])]]
    return [record for record in records if record.target == target]


def require_records(workspace: Workspace, target: str, publisher: str) -> None:
    """Stops where a release that the promotion log names has lost its record: the next number could be one of its.

    Raises:
        BadInput: A record is lost, or the log's chain is broken.
    """
    from posa_vla.release.record import record_digest

    kept, strays = kept_records(workspace, target, publisher)
    known = {record_digest(envelope) for envelope in kept.values()}
    log = PromotionLog(workspace.promotions / target / "log.jsonl")
    lost = sorted({entry.release for entry in log.releases() if entry.record not in known})
    if lost:
        beside = f"; {strays[0]} is no record of this publisher" if strays else ""
        raise BadInput(
            f"records of release {', '.join(map(str, lost))} of target {target!r} are lost, and numbers must not be "
            f"given twice{beside}: restore {records_folder(workspace, target)} from a backup"
        )
