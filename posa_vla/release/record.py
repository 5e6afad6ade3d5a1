"""The release record: what a robot may run and why, as an in-toto statement in a signed DSSE envelope."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key

from posa_vla.errors import BadInput, LaterRecord, LaterVersion, Refused
from posa_vla.files import canonical_json, sha256_bytes
from posa_vla.json_reader import decode_json
from posa_vla.policy.execution import Execution
from posa_vla.release.code_state import CodeState
from posa_vla.release.keys import public_key
from posa_vla.release.trust import Trust
from posa_vla.schema import Closed, parse, require_known_version

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATES = {1: "urn:posa-vla:release-record:v1", 2: "urn:posa-vla:release-record:v2"}
_ADDED = ("execution", "image_size", "sequence", "log_head")
# An envelope is a few kilobytes; nothing larger is read from outside.
MAX_ENVELOPE = 1 << 20


def _absent(value: object) -> bool:
    return value is None


class ReleaseRecord(Closed):
    """Everything that a release stands on; digests are hex SHA-256.

    Attributes:
        release: Number, rising with every release of a target.
        rollback: Whether a robot that runs a newer release shall take this one nevertheless.
        bundle_digest: The policy.
        simulated: Whether the embodiment exists in simulation alone.
        data_version: DVC content hash of the training data.
        params_digest: Digest of the resolved parameters.
        run_id: MLflow run; `model_version` of the target's registered model.
        evidence: Digest of the candidate's evidence, then of the champion's and of the reference's where there were
            such.
        decision: Digest of the gate's decision.
        execution: How the policy was run when it was judged, and is run by robots (from version 2 on, as all below).
        image_size: Pixels along each side of the pictures that it was judged on.
        sequence: Rises with every record of a target, rollbacks too, so that no older one can be offered as new.
        log_head: SHA-256 of the promotion log's last line when the record was drafted; zeros before the first.
    """

    schema_version: Literal[1, 2] = 1
    target: str
    release: int = Field(ge=1)
    rollback: bool = False
    bundle_digest: str
    embodiment_id: str
    embodiment_digest: str
    simulated: bool
    data_version: str
    params_digest: str
    code: CodeState
    run_id: str
    model_version: str
    evidence: list[str]
    decision: str
    created: str
    # Left out where absent: a record of version 1 keeps the bytes, and with them the signatures, that it always had.
    execution: Execution | None = Field(default=None, exclude_if=_absent)
    image_size: int | None = Field(default=None, ge=16, exclude_if=_absent)
    sequence: int | None = Field(default=None, ge=1, exclude_if=_absent)
    log_head: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", exclude_if=_absent)

    @model_validator(mode="after")
    def _whole(self) -> ReleaseRecord:
        given = [name for name in _ADDED if getattr(self, name) is not None]
        expected = list(_ADDED) if self.schema_version == 2 else []
        if given != expected:
            raise ValueError(
                f"a record of version {self.schema_version} has {', '.join(given) or 'none'} of {', '.join(_ADDED)}, "
                f"expected {'all' if expected else 'none'}"
            )
        return self


def _envelope(data: bytes) -> Envelope:
    try:
        envelope = Envelope.from_dict(decode_json(data, "release record", limit=MAX_ENVELOPE))
    except BadInput as error:
        raise Refused(str(error)) from None
    except Exception as error:  # whatever a hostile file makes the parser of the envelope do
        raise Refused(f"release record: no DSSE envelope ({type(error).__name__}: {error})") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Refused(f"release record: payload of type {envelope.payload_type!r}, expected {PAYLOAD_TYPE!r}")
    return envelope


def _dump(envelope: Envelope) -> bytes:
    return canonical_json(envelope.to_dict())


def sign_record(record: ReleaseRecord, publisher: CryptoSigner) -> bytes:
    """Wraps and signs a record; returns the envelope."""
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": "bundle", "digest": {"sha256": record.bundle_digest}}],
        "predicateType": _PREDICATES[record.schema_version],
        "predicate": record.model_dump(mode="json"),
    }
    envelope = Envelope(canonical_json(statement), PAYLOAD_TYPE, {})
    envelope.sign(publisher)
    return _dump(envelope)


def approve_record(envelope: bytes, approver: CryptoSigner) -> bytes:
    """Adds an approver's signature over the same payload, and with it over every digest that the record names."""
    opened = _envelope(envelope)
    opened.sign(approver)
    return _dump(opened)


def record_digest(envelope: bytes) -> str:
    """Hex SHA-256 of the signed payload: the same before and after approvals.

    Raises:
        Refused: The bytes are no envelope.
    """
    return sha256_bytes(_envelope(envelope).payload)


def read_record(envelope: bytes) -> ReleaseRecord:
    """The record in an envelope of this workspace; signatures are not checked."""
    return _read(_envelope(envelope).payload)


def _signers(envelope: Envelope, keys: list[str]) -> int:
    """How many distinct keys of `keys` have a good signature on the envelope."""
    count = 0
    for key in sorted(set(keys)):
        trusted: list[Key] = [public_key(key)]
        try:
            envelope.verify(trusted, 1)
        except VerificationError:
            continue
        count += 1
    return count


def approvals(envelope: bytes, trust: Trust) -> int:
    """How many approvers of `trust` have signed."""
    return _signers(_envelope(envelope), trust.approvers)


def signed_by(envelope: bytes, publisher: str) -> bool:
    """Whether a publisher's key (hex) has signed an envelope."""
    return _signers(_envelope(envelope), [publisher]) == 1


def verify(envelope: bytes, trust: Trust, *, require_approvals: bool = True) -> ReleaseRecord:
    """Checks signatures, then reads the record, then checks that it is meant for this robot.

    Args:
        envelope: The DSSE envelope.
        trust: Whose signatures count for the robot.
        require_approvals: False to look at a record that still waits for them.

    Raises:
        Refused: A signature is missing or wrong; the record is of another kind, target or embodiment; approvals are
            missing, of which a robot that is not simulated asks for one whatever its trust says.
    """
    opened = _envelope(envelope)
    if _signers(opened, trust.publishers) == 0:
        raise Refused("release record: no signature by a trusted publisher: it was changed, or somebody else made it")
    record = _read(opened.payload)
    if record.target != trust.target:
        raise Refused(f"release record: made for target {record.target!r}, this is {trust.target!r}")
    if record.embodiment_digest != trust.embodiment_digest:
        raise Refused(
            f"release record: made for embodiment {record.embodiment_id} ({record.embodiment_digest[:12]}), "
            f"this is {trust.embodiment_id} ({trust.embodiment_digest[:12]})"
        )
    needed = max(trust.approvals, 0 if trust.simulated and record.simulated else 1)
    found = approvals(envelope, trust)
    if require_approvals and found < needed:
        raise Refused(f"release record: signed by {found} approvers, this robot asks for {needed}: `posa approve`")
    return record


def _read(payload: bytes) -> ReleaseRecord:
    try:
        statement: dict[str, Any] = decode_json(payload, "release record", limit=MAX_ENVELOPE)
        kind = (statement["_type"], statement["predicateType"])
        subject = statement["subject"][0]["digest"]["sha256"]
        predicate = statement["predicate"]
    except BadInput as error:
        raise Refused(str(error)) from None
    except (KeyError, IndexError, TypeError) as error:
        raise Refused(f"release record: no in-toto statement ({error!r})") from None
    try:
        require_known_version(predicate, max(_PREDICATES), "release record")
    except LaterVersion as error:
        raise LaterRecord(str(error)) from None
    if kind[0] != _STATEMENT or kind[1] not in _PREDICATES.values():
        known = " or ".join(_PREDICATES.values())
        raise Refused(f"release record: a statement of kind {kind}, expected {_STATEMENT} with {known}")
    try:
        record = parse(ReleaseRecord, predicate, "release record")
    except (BadInput, ValidationError) as error:
        raise Refused(str(error)) from None
    if kind[1] != _PREDICATES[record.schema_version]:
        raise Refused(f"release record: version {record.schema_version} in a statement of kind {kind[1]}")
    if subject != record.bundle_digest:
        raise Refused("release record: its subject is another bundle than the one that it describes")
    return record
