"""Release a candidate, signed, after "promote" and the approvals that its target needs."""

from __future__ import annotations

import shlex
from functools import partial

from posa_vla.code_digest import code_digest
from posa_vla.errors import PosaError
from posa_vla.evidence.record import evidence_path, read_evidence
from posa_vla.files import write_bytes
from posa_vla.pipeline.announcements import ApprovalNeeded
from posa_vla.pipeline.context import StepContext
from posa_vla.pipeline.records import Decided, Registered, Released
from posa_vla.promotion.champion import (
    champion_bundle,
    has_published,
    open_publisher,
    promotion_log,
    promotions,
    require_anchored_log,
    to_run,
    withdrawn,
)
from posa_vla.promotion.drafting import (
    Judged,
    draft_release,
    execution_of_evidence,
    overtaken,
    require_told,
    target_trust,
)
from posa_vla.promotion.entries import Promotion
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.robots_trust import hand_over
from posa_vla.promotion.standing import standing_of, who_names
from posa_vla.workspace import Workspace


def release(context: StepContext, registered: Registered) -> Released:
    """Signs the release record, and publishes it with the bundle once it has the approvals that the target asks for.

    The record is written once for a decision, so that a killed call goes on with the number it had; anew only where
    robots would refuse it by now, and its approvals are asked for again. Then: promotion log, channel, alias. A
    candidate that was rolled back from stays withdrawn.

    Raises:
        PosaError: Another champion has come since the evaluation.
    """
    workspace, target, decided = context.workspace, context.params.target, registered.decided
    bundle = decided.evaluated.candidate.digest
    path = records_folder(workspace, target) / f"{decided.decision}.dsse.json"

    def work(key: str) -> Released:
        with promotions(workspace, "a release"):
            return _publish(context, registered)

    inputs = {
        "target": target,
        "decision": decided.decision,
        "bundle": bundle,
        "model_version": registered.model_version,
        "channel": workspace.named(workspace.channel),
        "approvals": context.target.approvals,
        "approvers": context.target.approvers,
        "code": code_digest("posa_vla.release"),
    }
    result = context.ledger.step(
        "release",
        inputs,
        Released,
        work,
        sound=lambda released: (
            released.release is not None and path.is_file() and champion_bundle(workspace, target) == bundle
        ),
        before={"registered": registered},
    )
    if result.status == "reused":
        refresh_channel(workspace)
    released = context.keep(result)
    if released.record is not None and released.release is None:
        context.announce(ApprovalNeeded(target, str(released.pending)))
    return released


def _require_same_reference(context: StepContext, decided: Decided) -> None:
    """Stops where a person named another reference since a candidate was held against the one before."""
    workspace, target, evaluated = context.workspace, context.params.target, decided.evaluated
    if evaluated.reference is None or evaluated.evidence is None:
        return
    if champion_bundle(workspace, target) == evaluated.candidate.digest:
        return  # it is out already, and may be the reference itself
    suite = read_evidence(evidence_path(workspace, evaluated.evidence)).suite
    if standing_of(workspace, target, suite, who_names(context.target)).reference != evaluated.reference:
        raise PosaError("another reference has come since this candidate was evaluated: run the same command again")


def _publish(context: StepContext, registered: Registered) -> Released:
    from posa_vla.promotion.registry import show_champion
    from posa_vla.promotion.releasing import release as make_champion
    from posa_vla.release.approval import alone_with
    from posa_vla.release.bundle_store import sound_bundle
    from posa_vla.release.record import approvals, record_digest, sign_record, verify

    workspace, params, target = context.workspace, context.params, context.params.target
    decided, evaluated = registered.decided, registered.decided.evaluated
    bundle = evaluated.candidate.digest
    if champion_bundle(workspace, target) not in (evaluated.champion, bundle):
        raise PosaError("another champion has come since this candidate was evaluated: run the same command again")
    _require_same_reference(context, decided)
    reason = withdrawn(workspace, target, bundle)
    if reason is not None:
        number = max(entry.release for entry in promotion_log(workspace, target).releases() if entry.bundle == bundle)
        return Released(
            registered=registered,
            release=None,
            pending=(f"this candidate was rolled back from ({reason}); to have it again: {to_run(target, number)}"),
            record=None,
            record_version=None,
            trust=None,
        )
    publisher = open_publisher(workspace)
    require_anchored_log(workspace, target, publisher)
    trust = target_trust(params, context.embodiment, publisher)
    folder = hand_over(workspace, target, publisher, trust)
    path = records_folder(workspace, target) / f"{decided.decision}.dsse.json"
    with alone_with(path):
        if not path.exists() or overtaken(workspace, target, path.read_bytes(), publisher.current(target)):
            candidate = Judged(
                bundle=bundle,
                data_version=evaluated.candidate.data.version,
                run_id=registered.run_id,
                model_version=registered.model_version,
                evidence=[
                    digest
                    for digest in (evaluated.evidence, evaluated.champion_evidence, evaluated.reference_evidence)
                    if digest is not None
                ],
                decision=decided.decision,
            )
            if evaluated.evidence is None:
                raise PosaError(f"nothing shows that bundle {bundle[:12]} does its task: nothing is released")
            folder_of_bundle = workspace.bundles / bundle
            judged = read_evidence(evidence_path(workspace, evaluated.evidence))
            require_told(params, execution_of_evidence(judged, folder_of_bundle), folder_of_bundle)
            drafted = draft_release(workspace, params, context.embodiment, candidate, publisher)
            write_bytes(path, sign_record(drafted, publisher.record_signer))
        envelope = path.read_bytes()
    record, digest = verify(envelope, trust, require_approvals=False), record_digest(envelope)
    missing = trust.approvals - approvals(envelope, trust)
    out: int | None = None
    pending: str | None = None
    if missing > 0:
        pending = (
            f"release {record.release} waits for {missing} approvals: posa approve {shlex.quote(str(path))} --key FILE"
        )
    else:
        verify(envelope, trust)
        entry = Promotion(
            key=digest,
            bundle=bundle,
            release=record.release,
            record=digest,
            decision=decided.decision,
            model_version=registered.model_version,
            reasons=decided.reasons,
        )
        sealed = sound_bundle(workspace, target, bundle, publisher)  # before the log says that it is released
        set_alias = partial(show_champion, workspace.mlflow_uri, target, bundle)
        make_champion(promotion_log(workspace, target), publisher, envelope, sealed, entry, set_alias)
        out = record.release
    return Released(
        registered=registered,
        release=out,
        pending=pending,
        record=digest,
        record_version=record.schema_version,
        trust=folder.relative_to(workspace.home).as_posix(),
    )


def refresh_channel(workspace: Workspace) -> bool:
    """Signs the channel's metadata anew where half its life is over; true if that was so."""
    if not has_published(workspace):
        return False
    with promotions(workspace, "a refresh of the channel"):
        return open_publisher(workspace).refresh()
