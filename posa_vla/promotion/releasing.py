"""The one order in which a release becomes the champion: promotion log, channel, alias."""

from __future__ import annotations

from collections.abc import Callable

from posa_vla.errors import PosaError, Refused
from posa_vla.promotion.entries import Release
from posa_vla.promotion.log import PromotionLog
from posa_vla.release.bundle import Bundle
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import read_record, record_digest


def release(
    log: PromotionLog,
    publisher: Publisher,
    envelope: bytes,
    bundle: Bundle,
    entry: Release,
    set_alias: Callable[[str], object],
) -> None:
    """Makes a signed record the target's release; the same call again goes on where a killed one stopped.

    The log comes first. Whatever is killed after it, the champion's `settle` brings the channel, and a reconciliation
    the alias, to what the log says.

    Args:
        log: Of the record's target.
        publisher: Of its channel.
        envelope: The signed record, with all approvals that the target asks for.
        bundle: The bundle that the record names.
        entry: The promotion or rollback that this is.
        set_alias: Points the registry's alias `champion` at the model version that it is handed.

    Raises:
        PosaError: The registry is away, and the robots have the release.
        Refused: The entry says something else than the record; nothing was written.
    """
    record = read_record(envelope)
    said = (entry.record, entry.bundle, entry.release, entry.kind == "rollback")
    signed = (record_digest(envelope), record.bundle_digest, record.release, record.rollback)
    if said != signed or bundle.digest != record.bundle_digest:
        raise Refused(
            f"the log's entry of release {entry.release} says (record, bundle, release, rollback) {said} of bundle "
            f"{bundle.digest}, the signed record {signed}: nothing is released; run the same command again"
        )
    log.append(entry)
    publisher.publish(record.target, envelope, bundle)
    try:
        set_alias(entry.model_version)
    except PosaError as error:
        raise PosaError(
            f"release {entry.release} is on the channel, and robots take it; the registry does not show it yet: "
            f"{error}. Run the same command again"
        ) from error
