"""Whether this posa-vla reads the records of a workspace, and what it says where it does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from the_past import unpack_workspace

from posa_vla.cli.doctor.records import look_at_records
from posa_vla.files import canonical_json
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(Settings(home=unpack_workspace(tmp_path_factory.mktemp("past"))))


def test_all_records_of_an_earlier_commit_are_read(workspace: Workspace) -> None:
    finding = look_at_records(workspace)
    assert (finding.status, finding.detail[:2]) == ("sound", "7 "), finding.detail


def later(data: bytes) -> bytes:
    return canonical_json({**json.loads(data), "schema_version": 9, "news": True})


def later_entry(data: bytes) -> bytes:
    lines = data.splitlines()
    return b"".join(line + b"\n" for line in [*lines[:-1], later(lines[-1])])


def later_release(data: bytes) -> bytes:
    envelope: dict[str, Any] = json.loads(data)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicateType"] = "urn:posa-vla:release-record:v9"
    statement["predicate"]["schema_version"] = 9
    return canonical_json({**envelope, "payload": base64.b64encode(canonical_json(statement)).decode()})


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("evidence/*.json", later),
        ("promotions/decisions/*.json", later),
        ("promotions/*/trust/trust.json", later),
        ("promotions/*/log.jsonl", later_entry),
        ("promotions/*/records/*.dsse.json", later_release),
        ("robots/*/state.json", later),
        ("store-state.json", later),
    ],
)
def test_a_record_of_a_later_version_is_refused_with_the_command_that_helps(
    workspace: Workspace, pattern: str, change: Callable[[bytes], bytes]
) -> None:
    (path,) = workspace.home.glob(pattern)
    before = path.read_bytes()
    path.write_bytes(change(before))
    finding = look_at_records(workspace)
    path.write_bytes(before)
    assert finding.status == "unsound"
    assert str(path) in finding.detail
    assert "written by a later posa-vla" in finding.detail
    assert "pip install --upgrade posa-vla" in finding.detail
