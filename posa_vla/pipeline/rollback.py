"""Put an earlier release back on a target's robots: a signed record that names it, whatever its number."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput
from posa_vla.files import write_bytes
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announce, ApprovalNeeded, silent
from posa_vla.promotion.champion import promotion_log, promotions, records_folder, settle
from posa_vla.promotion.drafting import draft_rollback, target_trust
from posa_vla.promotion.entries import Promotion, Release, Rollback
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace


class RollbackOutcome(Closed):
    """The document of `posa rollback --json`.

    Attributes:
        bundle: Digest of the policy that shall run again.
        model_version: Version of the target's registered model.
        release: Number of the release; None while approvals are missing.
        pending: What is missing, in words, or None.
    """

    bundle: str
    model_version: str
    release: int | None
    pending: str | None


def _chosen(workspace: Workspace, target: str, to: int | None) -> tuple[Release, Promotion]:
    """The log's entries of the champion and of the promotion that shall run again."""
    log = promotion_log(workspace, target)
    champion = log.champion()
    if champion is None:
        raise BadInput(f"target {target!r} has no release yet: there is nothing to go back to")
    released = {entry.release: entry for entry in log.releases() if isinstance(entry, Promotion)}
    others = [number for number in released if number != champion.release]
    if to is None:
        earlier = [number for number in others if number < champion.release]
        if not earlier:
            raise BadInput(f"target {target!r} runs release {champion.release}, the first one: name one with --to")
        to = max(earlier)
    if to not in others:
        known = ", ".join(str(number) for number in sorted(others)) or "none"
        raise BadInput(f"release {to} of target {target!r} is not one to go back to: it has {known}")
    return champion, released[to]


def roll_back(
    workspace: Workspace, params: Params, to: int | None, reason: str, announce: Announce = silent
) -> RollbackOutcome:
    """Publishes an earlier release again; a retraining that is under way does not hinder it.

    Robots take the record although its number is lower than what they run, because it is signed as a rollback. A target
    that asks for approvals asks for them here too: the record waits for `posa approve`, and the same call goes on.

    Args:
        workspace: Workspace of the publisher.
        params: Parameters, which name the target.
        to: Number of the release; the one before the champion's if None.
        reason: Goes into the promotion log.
        announce: Told where approvals are missing.

    Raises:
        BadInput: No such release, or no reason.
    """
    from posa_vla.promotion.registry import set_champion
    from posa_vla.promotion.releasing import release
    from posa_vla.release.bundle import Bundle
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import approvals, record_digest, sign_record, verify

    if not reason.strip():
        raise BadInput("a rollback needs a reason: it stands in the promotion log")
    target, embodiment = params.target, load_embodiment(params.chosen.embodiment)
    with promotions(workspace, "a rollback"):
        settle(workspace, target)
        champion, wanted = _chosen(workspace, target, to)
        publisher = Publisher(workspace.channel, workspace.keys)
        trust = target_trust(params, embodiment, publisher)
        folder = records_folder(workspace, target)
        # Named by what it replaces, so that a killed call goes on with its own record.
        path = folder / "rollbacks" / f"{champion.record[:16]}-to-{wanted.release}.dsse.json"
        if not path.exists():
            envelope = _envelope(folder, wanted)
            earlier = verify(envelope, trust, require_approvals=False)
            drafted = draft_rollback(workspace, params, earlier, publisher)
            write_bytes(path, sign_record(drafted, publisher.record_signer))
        envelope = path.read_bytes()
        record = verify(envelope, trust, require_approvals=False)
        output = RollbackOutcome(
            bundle=record.bundle_digest, model_version=record.model_version, release=None, pending=None
        )
        missing = trust.approvals - approvals(envelope, trust)
        if missing > 0:
            command = f"posa approve {shlex.quote(str(path))} --key FILE"
            pending = f"the rollback to release {record.release} waits for {missing} approvals: {command}"
            announce(ApprovalNeeded(target, pending))
            return output.model_copy(update={"pending": pending})
        bundle = Bundle(record.bundle_digest, workspace.bundles / record.bundle_digest)
        entry = Rollback(
            key=record_digest(envelope),
            bundle=record.bundle_digest,
            release=record.release,
            record=record_digest(envelope),
            decision=record.decision,
            model_version=record.model_version,
            reasons=[reason],
        )
        set_alias = partial(set_champion, workspace.mlflow_uri, target)
        release(promotion_log(workspace, target), publisher, envelope, bundle, entry, set_alias)
        return output.model_copy(update={"release": record.release})


def _envelope(folder: Path, entry: Promotion) -> bytes:
    path = folder / f"{entry.decision}.dsse.json"
    if not path.is_file():
        raise BadInput(f"the record of release {entry.release} is gone: expected {path}, restore it from a backup")
    return path.read_bytes()
