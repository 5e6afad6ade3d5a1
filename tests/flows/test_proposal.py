"""What decides whether a person is asked to retrain, without any server."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cheap_place import make_place
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Running, Suspended

from flows.propose_retraining import Answer, approved, idempotency_key, other_proposal, pause_key
from flows.server.events import announce
from posa_vla.dataset.versions.store_state import write_state
from posa_vla.errors import BadInput
from posa_vla.pipeline.announcements import ApprovalNeeded, DataIngested
from posa_vla.pipeline.proposal import StoreState


def test_new_episodes_are_the_successful_ones_since_the_newest_version(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    place.append(3, seed=1)
    place.append(2, seed=2, success=False)
    assert (place.state().usable, place.state().versioned, place.state().new) == (3, 0, 3)
    place.version("1", 2, "an earlier store")
    place.version("2", 9, "another robot's store", "other_arm")
    assert place.state().new == 1
    place.version("3", 2, place.state().digest)
    assert place.state().new == 0  # the third was kept out by validation: it is not waited for
    place.append(4, seed=3)
    assert place.state().new == 5


@pytest.mark.parametrize("times", [(1, 2), (2, 1)])
def test_the_newest_version_is_the_history_s_whatever_the_times_of_its_files(
    tmp_path: Path, times: tuple[int, int]
) -> None:
    place = make_place(tmp_path)
    place.append(9, seed=1)
    for number, (episodes, when) in enumerate(zip((2, 7), times, strict=True), 1):
        manifest = place.version(str(number), episodes, "an earlier store")
        os.utime(manifest, (when, when))
        os.utime(manifest.parent, (when, when))
    assert place.state().versioned == 7
    write_state(place.workspace, "data-v1", "1", [])
    assert place.state().versioned == 2, "the store is at the first again: a person brought it back"


def test_one_state_of_the_store_is_one_retraining() -> None:
    state = StoreState("a" * 64, 5, 0)
    assert idempotency_key("t", state) == idempotency_key("t", StoreState("a" * 64, 9, 3))
    assert idempotency_key("t", state) != idempotency_key("t", StoreState("b" * 64, 5, 0))
    assert idempotency_key("t", state) != idempotency_key("u", state)


def test_nobody_approves_without_a_name() -> None:
    assert approved(Answer(approve=True, decided_by="Ada"))
    assert not approved(Answer(approve=False, decided_by="Ada"))
    with pytest.raises(BadInput, match="approved by nobody"):
        approved(Answer(approve=True, decided_by=" "))
    with pytest.raises(ValueError, match="decided_by"):
        Answer.model_validate({"approve": True})


def test_proposals_do_not_pile_up() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def run(state: Any, minute: int = 0, **parameters: Any) -> FlowRun:
        start = noon + timedelta(minutes=minute)
        return FlowRun(id=uuid4(), flow_id=UUID(int=1), state=state, parameters=parameters, start_time=start)

    mine = run(Running(), 1, target="t")
    waiting = run(Suspended(pause_key=pause_key("t")))
    assert other_proposal(mine, [mine, waiting], "t") is waiting
    assert other_proposal(mine, [run(Suspended(pause_key=pause_key("u"))), run(Completed())], "t") is None
    earlier, later = run(Running(), 0, target="t"), run(Running(), 2, target="t")
    assert other_proposal(mine, [later, earlier], "t") is earlier
    assert other_proposal(mine, [later], "t") is None
    assert other_proposal(earlier, [mine, later], "t") is None


def test_without_a_server_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not announce(DataIngested("b", 1, "t"))


def test_a_server_that_is_away_does_not_fail_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert not announce(ApprovalNeeded("t", "one approval"))
    assert "Prefect was not told of posa.approval.needed, and the work goes on" in capsys.readouterr().err
