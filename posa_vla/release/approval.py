"""Approvers' signatures in a record's file: several people may sign at the same moment, and none is lost."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from posa_vla.errors import Refused
from posa_vla.files import write_bytes
from posa_vla.release.record import approve_record, record_digest


@contextmanager
def alone_with(record: Path) -> Iterator[None]:
    """Keeps others from writing a record's file while the block reads and writes it; they wait.

    The lock is on the record's folder, which is there, stays, and needs no right to write a file of somebody else.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(record.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def add_approval(record: Path, digest: str, approver: CryptoSigner) -> bytes:
    """Signs the record that the approver has seen, beside all signatures that it has by now.

    Args:
        record: Its file.
        digest: Of the record that was shown.
        approver: Who signs.

    Returns:
        The envelope as it is in the file now.

    Raises:
        Refused: The file holds another record than the one that was shown; nothing was signed.
    """
    with alone_with(record):
        envelope = record.read_bytes()
        found = record_digest(envelope)
        if found != digest:
            raise Refused(
                f"{record} was drafted again while you looked at it (record {digest[:12]} was shown, {found[:12]} is "
                "there now): nothing is signed; look at it again with the same command"
            )
        signed = approve_record(envelope, approver)
        write_bytes(record, signed)
        return signed
