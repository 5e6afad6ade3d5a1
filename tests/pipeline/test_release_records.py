"""What a release's record says: how its evidence was made, and where it stands in the order of releases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from candidates import Candidate, candidate, make_workspace, two_releases
from securesystemslib.signer import CryptoSigner
from untrained import arm_params

from posa_vla.errors import BadInput
from posa_vla.params import Params
from posa_vla.params_file import overlaid
from posa_vla.pipeline.context import open_context
from posa_vla.pipeline.rollback import roll_back
from posa_vla.pipeline.steps.decide import decide
from posa_vla.pipeline.steps.judged import judged_with
from posa_vla.pipeline.steps.register import register
from posa_vla.policy.execution import Execution
from posa_vla.policy.made_for import said_execution
from posa_vla.promotion.champion import promotion_log
from posa_vla.release.keys import public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import ReleaseRecord, read_record
from posa_vla.workspace import Workspace


def record_2(params: Params) -> Params:
    """The same target, which publishes records of version 2."""
    return overlaid(params, {"targets": {"t": {"record": 2}}}, "test")


def shown_record(workspace: Workspace) -> ReleaseRecord:
    envelope = Publisher(workspace.channel, workspace.keys).current("t")
    assert envelope is not None
    return read_record(envelope)


def test_a_release_says_how_its_evidence_was_made_where_the_target_asks_for_it(tmp_path: Path) -> None:
    way = {"episodes": 4, "objects": 1, "max_steps": 6, "videos": 1, "execute": 2, "committed": 1, "start_noise": 0.5}
    params, workspace = arm_params(evaluate=way), make_workspace(tmp_path)
    assert params.chosen.record == 1
    with open_context(workspace, params, "test") as context, pytest.raises(BadInput) as refused:
        candidate(context, params, tmp_path / "unsayable").promote()
    assert re.search(
        r"judged with start_noise 0.5 and 2 flow .*robots would run noise 1 .*\.record=2", str(refused.value)
    )
    assert promotion_log(workspace, "t").releases() == []
    older = arm_params(evaluate={**way, "start_noise": 1.0})
    with open_context(workspace, older, "test") as context:
        candidate(context, older, tmp_path / "old").promote()
    old = shown_record(workspace)
    assert (old.schema_version, old.execution, old.sequence) == (1, None, None)
    head = promotion_log(workspace, "t").head()

    with open_context(workspace, record_2(params), "test") as context:
        _, released = candidate(context, params, tmp_path / "new", 1).promote(champion=old.bundle_digest)
    assert released is not None
    record = shown_record(workspace)
    assert (record.schema_version, released.record_version, record.release) == (2, 2, 2)
    assert record.execution == Execution(execute=2, committed=1, start_noise=0.5, max_steps=6, flow_steps=2)
    assert (record.image_size, record.sequence, record.log_head) == (32, 2, head)


def test_a_rollback_carries_the_way_its_release_was_judged_in_and_a_new_sequence(tmp_path: Path) -> None:
    workspace, params, _ = two_releases(tmp_path)  # with records of version 1
    newer = record_2(params)
    # What is evaluated from now on is evaluated otherwise: it says nothing of releases that were judged before.
    newer = overlaid(newer, {"evaluate": {"execute": 1, "max_steps": 50}}, "test")
    roll_back(workspace, newer, 1, "drops cubes")
    record = shown_record(workspace)
    way = Execution(execute=4, max_steps=6, flow_steps=2)
    assert (record.release, record.rollback, record.sequence, record.execution) == (1, True, 3, way)
    assert record.image_size == 32
    roll_back(workspace, newer, 2, "the other is worse")
    roll_back(workspace, newer, 1, "no, it is not")
    record = shown_record(workspace)
    assert (record.release, record.sequence, record.execution) == (1, 5, way)
    assert record.log_head != "0" * 64
    roll_back(workspace, params, 2, "old robots have to follow")
    assert (shown_record(workspace).schema_version, shown_record(workspace).sequence) == (1, None)


def test_a_bundle_that_says_nothing_runs_as_it_was_released_and_not_as_it_was_judged_later(tmp_path: Path) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    digest = second.bundle.digest
    assert said_execution(second.bundle.folder) is None
    with open_context(workspace, overlaid(params, {"evaluate": {"execute": 1}}, "test"), "test") as context:
        again = Candidate(context, second.bundle)
        register(context, decide(context, again.evaluated(0, champion=digest)))
    assert promotion_log(workspace, "t").entries()[-1].bundle == digest
    assert judged_with(workspace, "t", digest) == Execution(execute=4, max_steps=6, flow_steps=2)


def test_a_release_that_waited_while_the_champion_went_and_came_back_is_still_taken(tmp_path: Path) -> None:
    workspace, params, (_, second) = two_releases(tmp_path)
    params = record_2(params)
    approver = CryptoSigner.generate_ed25519()
    asks = overlaid(params, {"targets": {"t": {"approvals": 1, "approvers": {"a": public_hex(approver)}}}}, "test")
    with open_context(workspace, asks, "test") as context:
        third = candidate(context, params, tmp_path / "third", 2)
        _, waits = third.promote(champion=second.bundle.digest)
    assert waits is not None
    assert waits.release is None
    roll_back(workspace, params, 1, "drops cubes")
    roll_back(workspace, params, 2, "so does the other")
    before = shown_record(workspace)
    assert before.sequence == 5
    with open_context(workspace, params, "test") as context:
        third.context = context
        _, released = third.promote(champion=second.bundle.digest)
    assert released is not None
    record = shown_record(workspace)
    assert (record.bundle_digest, record.sequence) == (third.bundle.digest, 6)
