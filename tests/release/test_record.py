from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from releases import EXECUTION, make_record, make_record_2, make_trust
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import Refused
from posa_vla.files import canonical_json
from posa_vla.release.keys import public_hex
from posa_vla.release.record import approve_record, record_digest, sign_record, verify
from posa_vla.release.trust import Trust

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHER, APPROVER, STRANGER = (CryptoSigner.generate_ed25519() for _ in range(3))
TRUST = make_trust(PUBLISHER)
RECORD = make_record("a" * 64)
ENVELOPE = sign_record(RECORD, PUBLISHER)


def test_a_signed_record_reads_back() -> None:
    assert verify(ENVELOPE, TRUST) == RECORD


@pytest.mark.fault
@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, len(ENVELOPE) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_never_gives_another_record(position: int, bit: int) -> None:
    changed = bytearray(ENVELOPE)
    changed[position] ^= 1 << bit
    with contextlib.suppress(Refused):
        assert verify(bytes(changed), TRUST) == RECORD  # a bit that says nothing, as the last of a base64 digit


@given(data=st.binary(max_size=200))
def test_whatever_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        verify(data, TRUST)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(Refused):
        verify(b"[" * 100_000, TRUST)


def test_a_stranger_signs_in_vain() -> None:
    with pytest.raises(Refused, match="trusted publisher"):
        verify(sign_record(RECORD, STRANGER), TRUST)


def test_a_payload_of_another_kind_is_refused() -> None:
    opened = json.loads(ENVELOPE)
    opened["payloadType"] = "text/plain"
    with pytest.raises(Refused, match="text/plain"):
        verify(canonical_json(opened), TRUST)


def test_another_target_or_embodiment_is_refused() -> None:
    for changes, words in (({"target": "other"}, "target 'other'"), ({"embodiment_digest": "0" * 64}, "embodiment")):
        with pytest.raises(Refused, match=words):
            verify(sign_record(make_record("a" * 64, **changes), PUBLISHER), TRUST)


def test_the_subject_is_the_bundle_that_is_described() -> None:
    from securesystemslib.dsse import Envelope

    opened = json.loads(ENVELOPE)
    statement = json.loads(base64.b64decode(opened["payload"]))
    statement["subject"][0]["digest"]["sha256"] = "b" * 64
    forged = Envelope(canonical_json(statement), opened["payloadType"], {})
    forged.sign(PUBLISHER)
    with pytest.raises(Refused, match="subject"):
        verify(canonical_json(forged.to_dict()), TRUST)


def test_approvals_count_distinct_approvers_who_did_not_publish() -> None:
    trust = make_trust(PUBLISHER, approvers=(APPROVER,), approvals=1)
    with pytest.raises(Refused, match="signed by 0 approvers"):
        verify(ENVELOPE, trust)
    with pytest.raises(Refused, match="signed by 0 approvers"):
        verify(approve_record(ENVELOPE, STRANGER), trust)
    approved = approve_record(ENVELOPE, APPROVER)
    assert verify(approved, trust) == RECORD
    assert record_digest(approved) == record_digest(ENVELOPE)
    with pytest.raises(Refused, match="asks for 2"):
        verify(approve_record(approved, APPROVER), make_trust(PUBLISHER, approvers=(APPROVER,), approvals=2))


def test_a_key_is_one_person_however_it_is_spelt() -> None:
    known = make_trust(PUBLISHER, approvers=(APPROVER,), approvals=1).model_dump()
    key, own = public_hex(APPROVER), public_hex(PUBLISHER)
    assert Trust.model_validate({**known, "approvers": [key.upper()]}).approvers == [key]
    for approvers, words in (
        ([key, key.upper()], "twice"),
        ([key, f"{key[:2]} {key[2:]}"], "twice"),
        ([own.upper()], "nobody"),
    ):
        with pytest.raises(ValidationError, match=words):
            Trust.model_validate({**known, "approvers": approvers})


def test_an_approval_is_of_one_record_alone() -> None:
    other = sign_record(make_record("b" * 64), PUBLISHER)
    stolen = json.loads(approve_record(other, APPROVER))["signatures"][-1]
    opened = json.loads(ENVELOPE)
    opened["signatures"].append(stolen)
    with pytest.raises(Refused, match="signed by 0 approvers"):
        verify(canonical_json(opened), make_trust(PUBLISHER, approvers=(APPROVER,), approvals=1))


def test_a_robot_that_is_not_simulated_always_needs_an_approval() -> None:
    real = sign_record(make_record("a" * 64, simulated=False), PUBLISHER)
    with pytest.raises(Refused, match="asks for 1"):
        verify(real, make_trust(PUBLISHER, approvers=(APPROVER,), approvals=0))
    with pytest.raises(Refused, match="asks for 1"):  # whatever its record claims to be for
        verify(ENVELOPE, make_trust(PUBLISHER, approvers=(APPROVER,), approvals=0, simulated=False))


def test_records_of_schema_version_1_stay_readable() -> None:
    """The files were written by the first version of this code, and are never written again."""
    from posa_vla.schema import parse

    trust = parse(Trust, json.loads((GOLDEN / "trust-1.json").read_text()), "golden")
    envelope = (GOLDEN / "release-record-1.dsse.json").read_bytes()
    record = verify(envelope, trust)
    assert record == make_record("a" * 64)
    # Digests and approvals are of the payload: written again today, it is the same to the byte.
    assert record_digest(sign_record(record, PUBLISHER)) == record_digest(envelope)


def test_records_of_schema_version_2_stay_readable() -> None:
    from posa_vla.schema import parse

    trust = parse(Trust, json.loads((GOLDEN / "release-record-2-trust.json").read_text()), "golden")
    envelope = (GOLDEN / "release-record-2.dsse.json").read_bytes()
    record = verify(envelope, trust)
    assert record == make_record_2("a" * 64, release=3, sequence=5, rollback=True, log_head="b" * 64)
    assert record.execution == EXECUTION
    assert record_digest(sign_record(record, PUBLISHER)) == record_digest(envelope)


@pytest.mark.parametrize("name", ["execution", "image_size", "sequence", "log_head"])
def test_a_record_has_all_or_none_of_what_version_2_added(name: str) -> None:
    with pytest.raises(ValidationError, match=r"version 2 has .* expected all"):
        make_record_2("a" * 64, **{name: None})
    with pytest.raises(ValidationError, match=r"version 1 has .* expected none"):
        make_record("a" * 64, **{name: getattr(make_record_2("a" * 64), name)})


def test_a_record_of_one_version_in_a_statement_of_the_other_is_refused() -> None:
    from securesystemslib.dsse import Envelope

    for record, kind in ((make_record("a" * 64), "v2"), (make_record_2("a" * 64), "v1")):
        opened = json.loads(sign_record(record, PUBLISHER))
        statement = json.loads(base64.b64decode(opened["payload"]))
        statement["predicateType"] = f"urn:posa-vla:release-record:{kind}"
        forged = Envelope(canonical_json(statement), opened["payloadType"], {})
        forged.sign(PUBLISHER)
        with pytest.raises(Refused, match=f"version {record.schema_version} in a statement"):
            verify(canonical_json(forged.to_dict()), TRUST)


def test_an_execution_that_makes_no_sense_is_refused_though_it_was_signed() -> None:
    from securesystemslib.dsse import Envelope

    opened = json.loads(sign_record(make_record_2("a" * 64), PUBLISHER))
    statement = json.loads(base64.b64decode(opened["payload"]))
    for changes, words in (
        ({"execute": 0}, "at least 1"),
        ({"ensemble": 0.1}, "every step"),
        ({"flow_stepz": 3}, "flow_steps"),
    ):
        changed = {**statement["predicate"]["execution"], **changes}
        whole = {**statement, "predicate": {**statement["predicate"], "execution": changed}}
        forged = Envelope(canonical_json(whole), opened["payloadType"], {})
        forged.sign(PUBLISHER)
        with pytest.raises(Refused, match=words):
            verify(canonical_json(forged.to_dict()), TRUST)
