"""The ledger: finished steps, found by what went in, and never believed where their file is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.ledger import Ledger
from posa_vla.schema import Closed
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

INPUTS = {"data": "d" * 64, "seed": 1}


class Data(Closed):
    version: str


class Trained(Closed):
    data: Data
    key: str


class Sealed(Closed):
    digest: str


DATA = Data(version="v")


def trained(key: str) -> Trained:
    return Trained(data=DATA, key=key)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Workspace.open(Settings(home=tmp_path / "home")))


def test_a_finished_step_is_found_by_its_inputs_and_listed(ledger: Ledger) -> None:
    given = {"data": DATA}
    assert ledger.find("train", INPUTS, Trained, before=given) is None
    assert list(ledger.entries()) == []
    done = ledger.step("train", INPUTS, Trained, trained, before=given)
    assert done.key == Ledger.key("train", INPUTS) == done.record.key
    assert ledger.find("train", INPUTS, Trained, before=given) == done.record
    assert ledger.find("train", {**INPUTS, "seed": 2}, Trained, before=given) is None
    ledger.step("bundle", {"training": done.key}, Sealed, lambda key: Sealed(digest="b"))
    assert [(step.name, step.inputs) for step in ledger.entries("bundle")] == [("bundle", {"training": done.key})]
    assert [step.name for step in ledger.entries()] == ["bundle", "train"]


def test_what_a_step_was_handed_is_put_back_and_not_kept(ledger: Ledger) -> None:
    ledger.step("train", INPUTS, Trained, trained, before={"data": DATA})
    (kept,) = ledger.entries()
    assert kept.output == {"key": Ledger.key("train", INPUTS)}
    other = Data(version="w")
    again = ledger.step("train", INPUTS, Trained, trained, before={"data": other})
    assert (again.status, again.record.data) == ("reused", other)


def test_what_another_version_kept_counts_as_not_done(ledger: Ledger) -> None:
    ledger.step("bundle", INPUTS, Sealed, lambda key: Sealed(digest="b"))
    assert ledger.find("bundle", INPUTS, Trained, before={"data": DATA}) is None
    done = ledger.step("bundle", INPUTS, Trained, trained, before={"data": DATA})
    assert done.status == "done"
    assert ledger.step("bundle", INPUTS, Trained, trained, before={"data": DATA}).status == "reused"


@pytest.mark.parametrize("damage", ["cut", "no output", "an output of another kind", "other inputs"])
def test_a_record_that_is_not_whole_is_named(ledger: Ledger, tmp_path: Path, damage: str) -> None:
    ledger.step("train", INPUTS, Trained, trained, before={"data": DATA})
    (path,) = (tmp_path / "home").rglob("*.json")
    record = json.loads(path.read_bytes())
    changes = {
        "cut": path.read_bytes()[:-5].decode(),
        "no output": json.dumps({name: value for name, value in record.items() if name != "output"}),
        "an output of another kind": json.dumps({**record, "output": []}),
        "other inputs": json.dumps({**record, "inputs": {}}),
    }
    path.write_text(changes[damage])
    for look in (lambda: ledger.find("train", INPUTS, Trained, before={"data": DATA}), lambda: list(ledger.entries())):
        with pytest.raises(BadInput, match=f"{path} .*delete it"):
            look()
