"""What a release record says, drafted from evidence and log before it is signed, and whom the target's robots trust."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posa_vla.episodes.embodiment import Embodiment
from posa_vla.errors import BadInput, Refused
from posa_vla.evidence.record import Evidence, evidence_path, read_evidence
from posa_vla.files import sha256_json
from posa_vla.params import Params
from posa_vla.policy.execution import Execution
from posa_vla.policy.made_for import made_for
from posa_vla.promotion.champion import next_sequence, promotion_log
from posa_vla.promotion.kept_records import require_records, signed_records
from posa_vla.release.code_state import code_state
from posa_vla.schema import Closed, parse
from posa_vla.workspace import Workspace

if TYPE_CHECKING:
    from posa_vla.release.publisher import Publisher
    from posa_vla.release.record import ReleaseRecord
    from posa_vla.release.trust import Trust

# UTC in one spelling, whose order is that of the times.
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Judged(Closed):
    """A candidate that passed the gate, as its release record names it.

    Attributes:
        bundle: Digest of the policy's files.
        data_version: Content hash of the training data.
        run_id: MLflow run.
        model_version: Of the target's registered model.
        evidence: Digest of the candidate's evidence, then of the champion's where there was one.
        decision: Digest of the gate's decision.
    """

    bundle: str
    data_version: str
    run_id: str
    model_version: str
    evidence: list[str]
    decision: str


class Conditions(Closed):
    """What evidence was made with, and robots run with.

    Attributes:
        execution: How the policy is run.
        image_size: Pixels along each side.
    """

    execution: Execution
    image_size: int


def target_trust(params: Params, embodiment: Embodiment, publisher: Publisher) -> Trust:
    """What a robot of the target trusts.

    Raises:
        Refused: The publisher's key is among the approvers.
    """
    from posa_vla.release.trust import Trust

    target, key = params.chosen, publisher.publisher_key()
    if key in target.approvers.values():
        raise Refused("the publisher's own key is among the approvers: nobody approves what they publish themselves")
    return Trust(
        target=params.target,
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        publishers=[key],
        approvers=sorted(target.approvers.values()),
        approvals=target.approvals,
        simulated=embodiment.simulated,
    )


def execution_of_evidence(evidence: Evidence, bundle: Path) -> Execution:
    """The execution that evidence of a bundle was made with.

    Older evidence names neither flow steps nor noise: it was made with the bundle's own steps, and noise of scale 1.

    Raises:
        BadInput: The evidence does not say how the policy was run.
    """
    from posa_vla.model.config import read_config

    known = {"flow_steps": read_config(bundle).params.flow_steps, **evidence.suite}
    _require_said(evidence, ("execute", "max_steps"))
    told = {name: known[name] for name in Execution.model_fields if name in known}
    return parse(Execution, told, _suite_of(evidence))


def conditions_of(evidence: Evidence, bundle: Path) -> Conditions:
    """The conditions that evidence of a bundle was made under, for its release record; see `execution_of_evidence`.

    Raises:
        BadInput: The evidence does not say how the policy was run.
    """
    _require_said(evidence, ("execute", "max_steps", "image_size"))
    execution = execution_of_evidence(evidence, bundle)
    return Conditions(execution=execution, image_size=evidence.suite["image_size"])


def _suite_of(evidence: Evidence) -> str:
    return f"the suite of evidence {evidence.digest[:12]}"


def _require_said(evidence: Evidence, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in evidence.suite:
            raise BadInput(f"{_suite_of(evidence)} has no {name}: robots could not run what was judged; evaluate again")


def require_recordable(params: Params) -> None:
    """Stops before work whose outcome the target's release records could not describe.

    Raises:
        BadInput: Records of version 1, which say neither noise nor flow steps, and parameters that name others than
            the robots of such records run with.
    """
    way = made_for(params, params.model.flow_steps)
    _require_recordable(params, way, params.model.flow_steps, "the parameters ask for")


def _require_recordable(params: Params, way: Execution, flow_steps: int, what: str) -> None:
    older = Execution(execute=way.execute, flow_steps=flow_steps)
    if params.chosen.record != 1 or (way.start_noise, way.flow_steps) == (older.start_noise, older.flow_steps):
        return
    raise BadInput(
        f"{what} start_noise {way.start_noise:g} and {way.flow_steps} flow steps, and target {params.target!r} "
        f"publishes records of version 1, which say neither: robots would run noise {older.start_noise:g} and "
        f"{older.flow_steps} steps. Upgrade the robots' agents and set targets.{params.target}.record=2 "
        f"(docs/operations.md), or set evaluate.start_noise={older.start_noise:g} and evaluate.flow_steps={flow_steps}"
    )


def require_told(params: Params, judged: Execution, bundle: Path) -> None:
    """Stops before a record that could not tell robots how the bundle was judged; see `require_recordable`.

    Args:
        params: Name the target, and the version of its records.
        judged: What the bundle was judged with.
        bundle: Its folder.

    Raises:
        BadInput: Robots would run it otherwise.
    """
    from posa_vla.model.config import read_config

    flow_steps = read_config(bundle).params.flow_steps
    _require_recordable(params, judged, flow_steps, f"bundle {bundle.name[:12]} was judged with")


def _known(workspace: Workspace, target: str, publisher: Publisher) -> list[ReleaseRecord]:
    return signed_records(workspace, target, publisher.publisher_key(), publisher.current(target))


def _version_2(workspace: Workspace, target: str, conditions: Conditions, publisher: Publisher) -> dict[str, Any]:
    """The fields that a record has from version 2 on."""
    return {
        "schema_version": 2,
        **dict(conditions),
        "sequence": next_sequence(_known(workspace, target, publisher)),
        "log_head": promotion_log(workspace, target).head(),
    }


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())


def _created(known: list[ReleaseRecord]) -> str:
    """When a new record is made: after every earlier one, whatever the clock says, because robots compare."""
    now, newest = _now(), max((record.created for record in known), default="")
    return now if now > newest else (datetime.strptime(newest, _TIME) + timedelta(seconds=1)).strftime(_TIME)


def draft_release(
    workspace: Workspace, params: Params, embodiment: Embodiment, candidate: Judged, publisher: Publisher
) -> ReleaseRecord:
    """The record of a candidate's release, with the target's next number.

    Raises:
        BadInput: The candidate's evidence does not say how the policy was run, or an earlier record is lost.
    """
    from posa_vla.release.record import ReleaseRecord

    target, added = params.target, dict[str, Any]()
    require_records(workspace, target, publisher.publisher_key())
    if params.chosen.record == 2:
        evidence = read_evidence(evidence_path(workspace, candidate.evidence[0]))
        conditions = conditions_of(evidence, workspace.bundles / candidate.bundle)
        added = _version_2(workspace, target, conditions, publisher)
    known = _known(workspace, target, publisher)
    return ReleaseRecord(
        target=target,
        release=max((record.release for record in known), default=0) + 1,
        bundle_digest=candidate.bundle,
        embodiment_id=embodiment.id,
        embodiment_digest=embodiment.digest,
        simulated=embodiment.simulated,
        data_version=candidate.data_version,
        params_digest=sha256_json(params.model_dump(mode="json")),
        code=code_state(workspace.settings),
        run_id=candidate.run_id,
        model_version=candidate.model_version,
        evidence=candidate.evidence,
        decision=candidate.decision,
        created=_created(known),
        **added,
    )


def draft_rollback(workspace: Workspace, params: Params, earlier: ReleaseRecord, publisher: Publisher) -> ReleaseRecord:
    """The record that puts an earlier release back, in the schema version that the target's settings ask for.

    Raises:
        BadInput: The evidence of the earlier release does not say how the policy was run.
    """
    from posa_vla.release.record import ReleaseRecord

    if params.chosen.record == 1:
        if earlier.execution is not None:
            require_told(params, earlier.execution, workspace.bundles / earlier.bundle_digest)
        added = {"schema_version": 1, **dict.fromkeys(("execution", "image_size", "sequence", "log_head"))}
    else:
        if earlier.execution is None or earlier.image_size is None:
            evidence = read_evidence(evidence_path(workspace, earlier.evidence[0]))
            conditions = conditions_of(evidence, workspace.bundles / earlier.bundle_digest)
        else:
            conditions = Conditions(execution=earlier.execution, image_size=earlier.image_size)
        added = _version_2(workspace, params.target, conditions, publisher)
    known = _known(workspace, params.target, publisher)
    return ReleaseRecord(**{**dict(earlier), "rollback": True, "created": _created(known), **added})


def overtaken(workspace: Workspace, target: str, drafted: bytes, shown: bytes | None) -> bool:
    """Whether robots would refuse a record that was never published, because they have seen a newer one.

    It happens while a release waits for approval: two rollbacks take the champion away and bring it back.

    Args:
        workspace: Of the publisher.
        target: Deployment target.
        drafted: The envelope of the record.
        shown: The envelope on the channel, or None.
    """
    from posa_vla.release.record import read_record, record_digest

    digest = record_digest(drafted)
    if shown is None or any(entry.record == digest for entry in promotion_log(workspace, target).releases()):
        return False
    newest, own = read_record(shown), read_record(drafted)
    if newest.sequence is None:
        return own.created < newest.created or (own.sequence is not None and own.sequence <= newest.release)
    return own.sequence is None or own.sequence <= newest.sequence
