"""Put an earlier release back on a target's robots: a signed record that names it, whatever its number."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from posa_vla.console import say
from posa_vla.episodes.embodiment import load_embodiment
from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.files import write_bytes
from posa_vla.params import Params
from posa_vla.pipeline.announcements import Announce, ApprovalNeeded, silent
from posa_vla.promotion.champion import open_publisher, promotion_log, promotions, to_run, unpublished, withdrawn
from posa_vla.promotion.drafting import draft_rollback, target_trust
from posa_vla.promotion.entries import Promotion, Release, Rollback
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.open_rollback import OpenRollback, close_rollback, is_logged, open_rollback, write_open
from posa_vla.promotion.robots_trust import hand_over, require_approvable
from posa_vla.schema import Closed
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.bundle import Bundle
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.trust import Trust

TO_HOLD = "To make the robots hold, end `posa robot run` on each of them (Ctrl-C)"


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


@dataclass(frozen=True)
class _Prepared:
    """A rollback that was looked at whole, and has changed nothing yet."""

    decided: OpenRollback
    envelope: bytes
    bundle: Bundle
    trust: Trust


def roll_back(
    workspace: Workspace, params: Params, to: int | None, reason: str, announce: Announce = silent
) -> RollbackOutcome:
    """Publishes an earlier release again; a retraining that is under way does not hinder it.

    What it is for is decided once: a call that was cut off, or waits for approvals, is continued by the same command,
    and goes to the same release. All that it needs is looked at before anything is written.

    Robots take the record although its number is lower than what they run, because it is signed as a rollback. A target
    that asks for approvals asks for them here too: the record waits for `posa approve`, and the same call goes on.

    Args:
        workspace: Workspace of the publisher.
        params: Parameters, which name the target.
        to: Number of the release; if None the one of the open rollback, or else the newest before the champion's that
            was not withdrawn.
        reason: Goes into the promotion log.
        announce: Told where approvals are missing.

    Raises:
        BadInput: No such release, no reason, or a target whose approvals are not enough for its robots.
        Refused: There is no release left to go back to, or something that the rollback needs is damaged or lost.
        PosaError: The registry is away; the robots have the release, and the same call sets the alias.
    """
    from posa_vla.promotion.registry import show_champion
    from posa_vla.promotion.releasing import release
    from posa_vla.release.record import approvals, record_digest, verify

    if not reason.strip():
        raise BadInput("a rollback needs a reason: it stands in the promotion log")
    target, embodiment = params.target, load_embodiment(params.chosen.embodiment)
    require_approvable(params, embodiment)
    with promotions(workspace, "a rollback"):
        champion = promotion_log(workspace, target).champion()
        if champion is None:
            raise BadInput(f"target {target!r} has no release yet: there is nothing to go back to")
        publisher = open_publisher(workspace)
        unpublished(workspace, target, publisher)
        opened = open_rollback(workspace, target)
        if opened is not None and to == champion.release and not is_logged(workspace, opened):
            close_rollback(workspace, target)
            say(f"{opened.in_words()} is given up: release {champion.release} stays")
            return RollbackOutcome(
                bundle=champion.bundle, model_version=champion.model_version, release=champion.release, pending=None
            )
        decided = _decided(workspace, target, champion, opened, to, reason)
        prepared = _looked_at(workspace, params, publisher, decided, target_trust(params, embodiment, publisher))
        hand_over(workspace, target, publisher, prepared.trust)
        write_open(workspace, decided)
        path, envelope = decided.record_file(workspace), prepared.envelope
        if not path.exists():
            write_bytes(path, envelope)
        record = verify(envelope, prepared.trust, require_approvals=False)
        output = RollbackOutcome(
            bundle=record.bundle_digest, model_version=record.model_version, release=None, pending=None
        )
        missing = prepared.trust.approvals - approvals(envelope, prepared.trust)
        if missing > 0:
            command = f"posa approve {shlex.quote(str(path))} --key FILE"
            pending = f"the rollback to release {record.release} waits for {missing} approvals: {command}"
            announce(ApprovalNeeded(target, pending))
            return output.model_copy(update={"pending": pending})
        verify(envelope, prepared.trust)
        entry = Rollback(
            key=record_digest(envelope),
            bundle=record.bundle_digest,
            release=record.release,
            record=record_digest(envelope),
            decision=record.decision,
            model_version=record.model_version,
            reasons=[decided.reason],
        )
        set_alias = partial(show_champion, workspace.mlflow_uri, target, record.bundle_digest)
        release(promotion_log(workspace, target), publisher, envelope, prepared.bundle, entry, set_alias)
        close_rollback(workspace, target)
        return output.model_copy(update={"release": record.release})


def _promoted(workspace: Workspace, target: str) -> dict[int, Promotion]:
    """The log's promotions, by the number of their release."""
    entries = promotion_log(workspace, target).releases()
    return {entry.release: entry for entry in entries if isinstance(entry, Promotion)}


def _decided(
    workspace: Workspace, target: str, champion: Release, opened: OpenRollback | None, to: int | None, reason: str
) -> OpenRollback:
    """What this call is for: the rollback that is open, or a new one."""
    if opened is not None and to in (None, opened.to):
        if is_logged(workspace, opened) or opened.leaves == champion.record:
            say(f"goes on with {opened.in_words()}")
            return opened
        if to is None:
            raise Refused(f"{opened.overtaken_words(champion.release)}. Nothing was changed. {TO_HOLD}")
    chosen = _chosen(workspace, target, champion) if to is None else to
    others = [number for number in _promoted(workspace, target) if number != champion.release]
    if chosen not in others:
        known = ", ".join(str(number) for number in sorted(others)) or "none"
        raise BadInput(
            f"release {chosen} of target {target!r}, which runs release {champion.release}, is not one to go back to: "
            f"it has {known}"
        )
    if opened is not None:
        say(f"{opened.in_words()} is given up for one to release {chosen}")
    return OpenRollback(
        target=target, leaves=champion.record, leaves_release=champion.release, to=chosen, reason=reason.strip()
    )


def _chosen(workspace: Workspace, target: str, champion: Release) -> int:
    """The newest release before the champion's that nobody rolled back from."""
    earlier = [entry for number, entry in _promoted(workspace, target).items() if number < champion.release]
    left = [e.release for e in earlier if e.bundle != champion.bundle and not withdrawn(workspace, target, e.bundle)]
    if left:
        return max(left)
    why = "it is the first one"
    if earlier:
        numbers = ", ".join(str(entry.release) for entry in sorted(earlier, key=lambda entry: entry.release))
        why = f"every earlier one ({numbers}) was rolled back from; `{to_run(target)}` runs one again on purpose"
    raise Refused(
        f"target {target!r} runs release {champion.release}, and has no release left to go back to: {why}. Nothing was "
        f"changed. {TO_HOLD}"
    )


def _looked_at(
    workspace: Workspace, params: Params, publisher: Publisher, decided: OpenRollback, trust: Trust
) -> _Prepared:
    """Everything that the rollback needs, verified; nothing is written but a bundle that is put back as it was."""
    from posa_vla.release.bundle_store import sound_bundle
    from posa_vla.release.record import sign_record, verify

    wanted = _promoted(workspace, decided.target).get(decided.to)
    if wanted is None:
        raise BadInput(f"{decided.in_words()}: the promotion log of target {decided.target!r} has no such release")
    try:
        envelope = _begun(decided.record_file(workspace), trust)
        if envelope is None:
            earlier = verify(_envelope(workspace, decided.target, wanted), trust, require_approvals=False)
            drafted = draft_rollback(workspace, params, earlier, publisher)
            envelope = sign_record(drafted, publisher.record_signer)
        verify(envelope, trust, require_approvals=False)
        bundle = sound_bundle(workspace, decided.target, wanted.bundle, publisher)
    except PosaError as error:
        raise Refused(
            f"release {decided.to} cannot run again: {error}. Nothing was changed; "
            f"`{to_run(decided.target)}` goes to another release. {TO_HOLD}"
        ) from None
    return _Prepared(decided, envelope, bundle, trust)


def _begun(path: Path, trust: Trust) -> bytes | None:
    """The rollback's own record where an earlier call has signed it."""
    from posa_vla.release.record import verify

    if not path.exists():
        return None
    envelope = path.read_bytes()
    try:
        verify(envelope, trust, require_approvals=False)
    except Refused as error:
        again = f"`rm {shlex.quote(str(path))}`, and the same command signs it anew"
        raise Refused(f"{path} was damaged ({error}): {again}") from None
    return envelope


def _envelope(workspace: Workspace, target: str, entry: Promotion) -> bytes:
    path = records_folder(workspace, target) / f"{entry.decision}.dsse.json"
    if not path.is_file():
        raise BadInput(f"the record of release {entry.release} is gone: expected {path}, restore it from a backup")
    return path.read_bytes()
