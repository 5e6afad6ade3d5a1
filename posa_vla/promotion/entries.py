"""What a promotion log holds: closed records, one for each kind of event."""

from __future__ import annotations

from typing import Any, Literal

from posa_vla.errors import BadInput, did_you_mean
from posa_vla.files import canonical_json
from posa_vla.schema import Closed, parse, require_known_version


class _Entry(Closed):
    """What every entry says.

    Attributes:
        key: Names the event: an event whose key is in the log already is not added again.
        bundle: Digest of the policy's bundle.
        model_version: Of the target's registered model.
        decision: Digest of the gate's decision.
        reasons: Why, in words.
        number: Of the entry, from 1. The log sets this field and the next two when the event is appended.
        time: When the event was appended, UTC, `2026-11-24T09:30:00Z`.
        previous: SHA-256 of the line before, zeros for the first.
    """

    schema_version: Literal[1] = 1
    key: str
    bundle: str
    model_version: str
    decision: str
    reasons: list[str]
    number: int = 0
    time: str = ""
    previous: str = ""


class Promotion(_Entry):
    """A candidate became champion.

    Attributes:
        release: Number of its release.
        record: Digest of the signed release record.
    """

    kind: Literal["promote"] = "promote"
    release: int
    record: str


class Rollback(_Entry):
    """An earlier release became champion again.

    Attributes:
        release: Number of that release.
        record: Digest of the signed record that puts it back.
    """

    kind: Literal["rollback"] = "rollback"
    release: int
    record: str


class Reference(_Entry):
    """A person named the policy that refreshes are held against; `decision` is empty.

    Attributes:
        signer: Public key (hex) of the approver who did; empty at a target that asks for no approvals.
        signature: Hex, over `named_statement`; empty likewise.
    """

    kind: Literal["reference"] = "reference"
    signer: str
    signature: str


def named_statement(target: str, bundle: str, reason: str, after: str) -> bytes:
    """What is signed by who names a reference; `after` is the head of the log by then."""
    return canonical_json({"reference": bundle, "target": target, "reason": reason, "after": after})


class Verdict(_Entry):
    """The gate did not let a candidate through."""

    kind: Literal["reject", "no decision"]


Release = Promotion | Rollback
Entry = Promotion | Rollback | Reference | Verdict

_KINDS: dict[str, type[Promotion] | type[Rollback] | type[Reference] | type[Verdict]] = {
    "promote": Promotion,
    "rollback": Rollback,
    "reference": Reference,
    "reject": Verdict,
    "no decision": Verdict,
}


def read_entry(value: dict[str, Any], where: str) -> Entry:
    """Parses an entry by its kind.

    Args:
        value: JSON values.
        where: Names its origin in the message.

    Raises:
        BadInput: A later posa-vla wrote it, it is of no known kind, or it does not fit its kind.
    """
    require_known_version(value, 1, where)
    kind = value.get("kind")
    schema = _KINDS.get(str(kind))
    if schema is None:
        raise BadInput(f"{where}: an entry of kind {kind!r}: {did_you_mean(str(kind), _KINDS)}")
    return parse(schema, value, where)
