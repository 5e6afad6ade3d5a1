"""What holds the promotion log in its place: signed records that name its past, and what the channel published.

The chain of hashes alone shows a change only to whoever remembers an end of it: who may write the file can make the
whole chain anew. The records are signed, so the log is held against every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from posa_vla.errors import BadInput, Refused
from posa_vla.promotion.log import PromotionLog

if TYPE_CHECKING:
    from posa_vla.promotion.entries import Release
    from posa_vla.release.record import ReleaseRecord


def require_anchored(
    log: PromotionLog, target: str, envelopes: Iterable[bytes], published: Iterable[bytes], publisher: str
) -> None:
    """Holds a target's log against its signed records and against what its channel published.

    Every release in the log has a record of its own, which says the same. Every record of version 2 names a head of the
    log that is still part of the chain, and sequences rise from entry to entry. The log has what was published, in that
    order. A record of version 1 names no head, and is held to the rest.

    Args:
        log: The target's.
        target: Deployment target.
        envelopes: What lies in its records folder; what the publisher did not sign for the target counts for nothing.
        published: Envelopes that the channel published, oldest first.
        publisher: Public key (hex) that signs records.

    Raises:
        BadInput: The log is not the one that the records were drafted on. Or its chain is broken.
        LaterRecord: A later posa-vla signed a record.
    """
    shown = _signed(published, target, publisher)
    records = {**_signed(envelopes, target, publisher), **shown}
    heads = log.heads()
    logged = {entry.record: entry for entry in log.releases()}

    def changed(what: str) -> BadInput:
        return BadInput(
            f"the promotion log {log.path} was changed: {what}; restore it, and the records beside it, from a backup "
            "(without one: docs/security.md, lost keys); nothing is promoted or rolled back on it"
        )

    if len(logged) != len(log.releases()):
        raise changed("two entries name the same signed record")
    for entry in logged.values():
        _require_same(entry, records, changed)
    numbers = []
    for digest, record in shown.items():
        if digest not in logged:
            raise changed(f"it does not know the {_words(record)}, which the channel published")
        numbers.append(logged[digest].number)
    if numbers != sorted(numbers):
        raise changed("its releases are not in the order in which the channel published them")
    for record in records.values():
        if record.log_head is not None and record.log_head not in heads:
            raise changed(
                f"the record of release {record.release}, sequence {record.sequence}, was drafted when its head was "
                f"{record.log_head[:12]}, which is no entry of it"
            )
    sequences = [sequence for digest in logged if (sequence := records[digest].sequence) is not None]
    if sequences != sorted(set(sequences)):
        raise changed("its releases are not in the order of their sequences")


def _signed(envelopes: Iterable[bytes], target: str, publisher: str) -> dict[str, ReleaseRecord]:
    """The publisher's records for a target by their digest, in the order given."""
    from posa_vla.release.record import read_record, record_digest, signed_by

    found: dict[str, ReleaseRecord] = {}
    for envelope in envelopes:
        try:
            if not signed_by(envelope, publisher):
                continue
        except Refused:  # no envelope
            continue
        record = read_record(envelope)
        if record.target == target:
            found.setdefault(record_digest(envelope), record)
    return found


def _require_same(entry: Release, records: Mapping[str, ReleaseRecord], changed: Callable[[str], BadInput]) -> None:
    record = records.get(entry.record)
    if record is None:
        raise changed(f"entry {entry.number} names release {entry.release}, and no signed record is the one it names")
    said = (entry.release, entry.bundle, entry.decision, entry.kind == "rollback")
    signed = (record.release, record.bundle_digest, record.decision, record.rollback)
    if said != signed:
        raise changed(
            f"entry {entry.number} says (release, bundle, decision, rollback) {said}, its signed record {signed}"
        )


def _words(record: ReleaseRecord) -> str:
    return f"{'rollback to ' if record.rollback else ''}release {record.release}"
