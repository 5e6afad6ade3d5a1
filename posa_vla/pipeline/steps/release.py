"""Register a candidate whatever the verdict; release it, signed, after "promote" and the approvals that it needs."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posa_vla.code_digest import code_digest
from posa_vla.errors import BadInput, PosaError, Refused
from posa_vla.evidence.record import Evidence, read_evidence
from posa_vla.files import read_json, sha256_json, write_bytes
from posa_vla.pipeline.announcements import ApprovalNeeded
from posa_vla.pipeline.context import PARAMS_ARTIFACT, Retraining
from posa_vla.pipeline.steps.decide import decision_path
from posa_vla.pipeline.steps.evaluate import evidence_path
from posa_vla.policy.execution import Execution
from posa_vla.promotion.champion import (
    champion_bundle,
    has_published,
    next_sequence,
    promotion_log,
    promotions,
    records_folder,
    signed_records,
    withdrawn,
)
from posa_vla.promotion.entries import Promotion
from posa_vla.promotion.gate import Decision
from posa_vla.release.code_state import code_state
from posa_vla.schema import parse
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import ReleaseRecord
    from posa_vla.release.trust import Trust


def _report(
    retraining: Retraining,
    data: dict[str, Any],
    evaluated: dict[str, Any],
    decided: dict[str, Any],
    version: str,
    folder: Path,
) -> str:
    """Writes the retraining's page and shows it in MLflow; returns its path below the workspace."""
    from posa_vla.pipeline.report.facts import Origin
    from posa_vla.pipeline.report.gather import gather_facts
    from posa_vla.pipeline.report.publish import publish_report

    workspace, params, run = retraining.workspace, retraining.params, retraining.tracked(data)
    code, champion = code_state(workspace.settings), promotion_log(workspace, params.target).champion()
    rival = evaluated["champion_evidence"]
    facts = gather_facts(
        workspace,
        params,
        parse(Decision, read_json(decision_path(workspace, decided["decision"])), "decision"),
        read_evidence(evidence_path(workspace, evaluated["evidence"])),
        None if rival is None else read_evidence(evidence_path(workspace, rival)),
        Origin(
            model_version=version,
            run_id=run.run_id,
            bundle=evaluated["bundle"],
            data_version=data["version"],
            data_name=data["name"],
            commit=code.commit or "unknown",
            dirty=bool(code.dirty),
        ),
        champion.model_version if champion is not None and champion.bundle == evaluated["champion"] else None,
        evaluated["reports"],
        PARAMS_ARTIFACT,
        itself=champion is not None and champion.bundle == evaluated["bundle"],
    )
    return publish_report(run, facts, folder).relative_to(workspace.home).as_posix()


def target_trust(retraining: Retraining, publisher: Publisher) -> Trust:
    """What a robot of the target trusts."""
    from posa_vla.release.trust import Trust

    target, embodiment = retraining.target, retraining.embodiment
    key = publisher.publisher_key()
    if key in target.approvers.values():
        raise Refused("the publisher's own key is among the approvers: nobody approves what they publish themselves")
    return Trust(
        target=retraining.params.target,
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        publishers=[key],
        approvers=sorted(target.approvers.values()),
        approvals=target.approvals,
        simulated=embodiment.simulated,
    )


def judged(evidence: Evidence, bundle: Path) -> dict[str, Any]:
    """`execution` and `image_size` that evidence of a bundle was made with, for its release record.

    Evidence from before it said so was made with the bundle's own flow steps, and with noise of scale 1.

    Raises:
        BadInput: The evidence does not say how the policy was run.
    """
    from posa_vla.model.config import read_config

    known = {"flow_steps": read_config(bundle).params.flow_steps, **evidence.suite}
    where = f"the suite of evidence {evidence.digest[:12]}"
    for name in ("execute", "max_steps", "image_size"):
        if name not in known:
            raise BadInput(f"{where} has no {name}: robots could not run what was judged; evaluate again")
    execution = parse(Execution, {name: known[name] for name in Execution.model_fields if name in known}, where)
    return {"execution": execution, "image_size": known["image_size"]}


def _record(
    retraining: Retraining,
    data: dict[str, Any],
    evaluated: dict[str, Any],
    decided: dict[str, Any],
    registered: dict[str, Any],
    publisher: Publisher,
) -> ReleaseRecord:
    from posa_vla.release.record import ReleaseRecord

    workspace, embodiment, target = retraining.workspace, retraining.embodiment, retraining.params.target
    known = signed_records(workspace, target, publisher.current(target))
    added: dict[str, Any] = {}
    if retraining.target.record == 2:
        evidence = read_evidence(evidence_path(workspace, evaluated["evidence"]))
        added = {
            "schema_version": 2,
            **judged(evidence, workspace.bundles / evaluated["bundle"]),
            "sequence": next_sequence(known),
            "log_head": promotion_log(workspace, target).head(),
        }
    return ReleaseRecord(
        target=target,
        release=max((record.release for record in known), default=0) + 1,
        bundle_digest=evaluated["bundle"],
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        simulated=embodiment.simulated,
        data_version=data["version"],
        params_digest=sha256_json(retraining.params.model_dump(mode="json")),
        code=code_state(retraining.workspace.settings),
        run_id=registered["run_id"],
        model_version=registered["model_version"],
        evidence=[digest for digest in (evaluated["evidence"], evaluated["champion_evidence"]) if digest is not None],
        decision=decided["decision"],
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **added,
    )


def _overtaken(workspace: Workspace, target: str, drafted: bytes, shown: bytes | None) -> bool:
    """Whether robots have seen a higher sequence than that of a record that was never published: they would refuse it.

    So it is after two rollbacks, while a release of the champion that came back waits for approval.
    """
    from posa_vla.release.record import read_record, record_digest

    digest = record_digest(drafted)
    if shown is None or any(entry.record == digest for entry in promotion_log(workspace, target).releases()):
        return False
    newest, own = read_record(shown).sequence, read_record(drafted).sequence
    return newest is not None and (own is None or own <= newest)


def release_candidate(
    retraining: Retraining,
    data: dict[str, Any],
    evaluated: dict[str, Any],
    decided: dict[str, Any],
    registered: dict[str, Any],
) -> dict[str, Any]:
    """Signs the release record, and publishes it with the bundle once it has the approvals that the target asks for.

    The record is written once for a decision, so that a killed call goes on with the number it had; anew only where
    robots would refuse it by now, and its approvals are asked for again. Then: promotion log, channel, alias. A
    candidate that was rolled back from stays withdrawn.

    Returns:
        `release`, its number, or null while approvals are missing; `pending`, what is missing, in words, or null;
        `record` (digest) and `record_version` (schema version); `trust`, folder of what robots are handed (relative to
        the workspace).

    Raises:
        PosaError: Another champion has come since the evaluation.
    """
    from posa_vla.release.record import approvals, record_digest, sign_record, verify

    workspace, target, bundle = retraining.workspace, retraining.params.target, evaluated["bundle"]
    path = records_folder(workspace, target) / f"{decided['decision']}.dsse.json"

    def publish() -> dict[str, Any]:
        from posa_vla.promotion.registry import set_champion
        from posa_vla.promotion.releasing import release
        from posa_vla.release.bundle import Bundle
        from posa_vla.release.publisher import Publisher
        from posa_vla.release.trust import write_trust

        champion = champion_bundle(workspace, target)
        if champion not in (evaluated["champion"], bundle):
            raise PosaError("another champion has come since this candidate was evaluated: run the same command again")
        reason = withdrawn(workspace, target, bundle)
        if reason is not None:
            pending = (
                f"this candidate was rolled back from ({reason}); to have it again: posa rollback --to its release"
            )
            return {"release": None, "pending": pending, "record": None, "record_version": None, "trust": None}
        publisher = Publisher(workspace.channel, workspace.keys)
        trust = target_trust(retraining, publisher)
        folder = workspace.promotions / target / "trust"
        write_trust(folder, publisher.root_bytes(), trust)
        if not path.exists() or _overtaken(workspace, target, path.read_bytes(), publisher.current(target)):
            record = _record(retraining, data, evaluated, decided, registered, publisher)
            write_bytes(path, sign_record(record, publisher.record_signer))
        envelope = path.read_bytes()
        record = verify(envelope, trust, require_approvals=False)
        output = {
            "record": record_digest(envelope),
            "record_version": record.schema_version,
            "trust": folder.relative_to(workspace.home).as_posix(),
        }
        found = approvals(envelope, trust)
        if found < trust.approvals:
            pending = f"release {record.release} waits for {trust.approvals - found} approvals: posa approve {path}"
            return {**output, "release": None, "pending": pending}
        entry = Promotion(
            key=record_digest(envelope),
            bundle=bundle,
            release=record.release,
            record=record_digest(envelope),
            decision=decided["decision"],
            model_version=registered["model_version"],
            reasons=decided["reasons"],
        )
        sealed = Bundle(bundle, workspace.bundles / bundle)
        set_alias = partial(set_champion, workspace.mlflow_uri, target)
        release(promotion_log(workspace, target), publisher, envelope, sealed, entry, set_alias)
        return {**output, "release": record.release, "pending": None}

    def work(key: str) -> dict[str, Any]:
        with promotions(workspace, "a release"):
            return publish()

    inputs = {
        "target": target,
        "decision": decided["decision"],
        "bundle": bundle,
        "model_version": registered["model_version"],
        "channel": workspace.named(workspace.channel),
        "approvals": retraining.target.approvals,
        "approvers": retraining.target.approvers,
        "code": code_digest("posa_vla.release"),
    }
    result = retraining.ledger.step(
        "release",
        inputs,
        work,
        sound=lambda output: (
            output["release"] is not None and path.is_file() and champion_bundle(workspace, target) == bundle
        ),
    )
    if result.status == "reused":
        refresh_channel(workspace)
    waits = result.output["record"] is not None and result.output["release"] is None
    if waits:
        retraining.announce(ApprovalNeeded(target, str(result.output["pending"])))
    return retraining.keep(result)


def refresh_channel(workspace: Workspace) -> bool:
    """Signs the channel's metadata anew where half its life is over; true if that was so."""
    from posa_vla.release.publisher import Publisher

    if not has_published(workspace):
        return False
    with promotions(workspace, "a refresh of the channel"):
        return Publisher(workspace.channel, workspace.keys).refresh()
