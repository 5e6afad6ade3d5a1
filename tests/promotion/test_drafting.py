"""Robots that know no sequence compare the times of records, so that these rise whatever the publisher's clock says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from releases import TARGET, make_record, make_record_2
from untrained import arm_params

from posa_vla.files import write_bytes
from posa_vla.promotion.drafting import draft_rollback, overtaken
from posa_vla.promotion.kept_records import records_folder
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import ReleaseRecord, sign_record
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

PARAMS = arm_params(target=TARGET, targets={TARGET: {"embodiment": "sim_arm6", "task": "pick", "approvals": 0}})


def test_a_record_is_newer_than_all_before_although_the_clock_was_set_back(tmp_path: Path) -> None:
    workspace = Workspace.open(Settings(home=tmp_path))
    publisher = Publisher(workspace.channel, workspace.keys)
    earlier = make_record("a" * 64)
    for number, created in enumerate(("2999-12-31T23:59:59Z", "2026-11-24T12:00:00Z")):
        kept = make_record("a" * 64, number + 1, created=created)
        path = records_folder(workspace, TARGET) / f"{number}.dsse.json"
        write_bytes(path, sign_record(kept, publisher.record_signer))
    drafted = draft_rollback(workspace, PARAMS, earlier, publisher)
    assert drafted.created == "3000-01-01T00:00:00Z"
    write_bytes(records_folder(workspace, TARGET) / "2.dsse.json", sign_record(drafted, publisher.record_signer))
    assert draft_rollback(workspace, PARAMS, earlier, publisher).created == "3000-01-01T00:00:01Z"


def test_a_record_that_waited_is_drafted_again_where_robots_have_a_newer_one(tmp_path: Path) -> None:
    workspace = Workspace.open(Settings(home=tmp_path))
    signer = Publisher(workspace.channel, workspace.keys).record_signer

    def later(drafted: ReleaseRecord, shown: ReleaseRecord) -> bool:
        return overtaken(workspace, TARGET, sign_record(drafted, signer), sign_record(shown, signer))

    def record(version: int, minute: int, **changes: Any) -> ReleaseRecord:
        make = make_record_2 if version == 2 else make_record
        return make("a" * 64, changes.pop("release", 3), created=f"2026-11-24T12:{minute:02}:00Z", **changes)

    assert later(record(1, 0), record(1, 1, rollback=True))
    assert not later(record(1, 1), record(1, 0))
    assert later(record(2, 2, sequence=3), record(1, 1, release=3))
    assert not later(record(2, 2, sequence=4), record(1, 1, release=3))
    assert later(record(1, 2), record(2, 1)), "a record without a sequence after one that has it"
    assert later(record(2, 2, sequence=3), record(2, 1, sequence=3))
    assert not later(record(2, 0, sequence=4), record(2, 1, sequence=3))
