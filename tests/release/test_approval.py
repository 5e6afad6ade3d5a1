"""Approvers who sign at the same moment: nobody's signature is lost, and nobody signs what was not shown."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from releases import make_record, make_trust
from securesystemslib.signer import CryptoSigner

from posa_vla.errors import Refused
from posa_vla.release.approval import add_approval
from posa_vla.release.record import approvals, record_digest, sign_record

RECORDS = 40


@pytest.mark.fault
def test_two_people_who_approve_at_once_both_count(tmp_path: Path) -> None:
    publisher, *people = (CryptoSigner.generate_ed25519() for _ in range(3))
    paths = [tmp_path / f"{number}.dsse.json" for number in range(RECORDS)]
    digests = {}
    for number, path in enumerate(paths, start=1):
        path.write_bytes(sign_record(make_record("b" * 64, number), publisher))
        digests[path] = record_digest(path.read_bytes())
    start = time.monotonic() + 0.3  # one clock for all processes of a machine
    children = []
    for person in people:
        child = os.fork()
        if child == 0:
            try:
                time.sleep(max(0.0, start - time.monotonic()))
                for path in paths:
                    add_approval(path, digests[path], person)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    trust = make_trust(publisher, approvers=(people[0], people[1]), approvals=2)
    assert [approvals(path.read_bytes(), trust) for path in paths] == [2] * RECORDS


def test_a_record_that_was_drafted_again_meanwhile_is_not_signed(tmp_path: Path) -> None:
    publisher, person = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    path = tmp_path / "record.dsse.json"
    path.write_bytes(sign_record(make_record("b" * 64, 1), publisher))
    shown = record_digest(path.read_bytes())
    path.write_bytes(sign_record(make_record("c" * 64, 2), publisher))
    before = path.read_bytes()
    with pytest.raises(Refused, match="drafted again while you looked at it"):
        add_approval(path, shown, person)
    assert path.read_bytes() == before
