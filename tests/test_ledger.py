"""The ledger: finished steps, found by what went in, and never believed where their file is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posa_vla.errors import BadInput
from posa_vla.ledger import Ledger
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

INPUTS = {"data": "d" * 64, "seed": 1}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Workspace.open(Settings(home=tmp_path / "home")))


def test_a_finished_step_is_found_by_its_inputs_and_listed(ledger: Ledger) -> None:
    assert ledger.find("train", INPUTS) is None
    assert list(ledger.entries()) == []
    done = ledger.step("train", INPUTS, lambda key: {"key": key})
    assert done.key == Ledger.key("train", INPUTS) == done.output["key"]
    assert ledger.find("train", INPUTS) == done.output
    assert ledger.find("train", {**INPUTS, "seed": 2}) is None
    ledger.step("bundle", {"training": done.key}, lambda key: {"digest": "b"})
    assert [(step.name, step.inputs) for step in ledger.entries("bundle")] == [("bundle", {"training": done.key})]
    assert [step.name for step in ledger.entries()] == ["bundle", "train"]


@pytest.mark.parametrize("damage", ["cut", "no output", "an output of another kind", "other inputs"])
def test_a_record_that_is_not_whole_is_named(ledger: Ledger, tmp_path: Path, damage: str) -> None:
    ledger.step("train", INPUTS, lambda key: {"key": key})
    (path,) = (tmp_path / "home").rglob("*.json")
    record = json.loads(path.read_bytes())
    changes = {
        "cut": path.read_bytes()[:-5].decode(),
        "no output": json.dumps({name: value for name, value in record.items() if name != "output"}),
        "an output of another kind": json.dumps({**record, "output": []}),
        "other inputs": json.dumps({**record, "inputs": {}}),
    }
    path.write_text(changes[damage])
    for look in (lambda: ledger.find("train", INPUTS), lambda: list(ledger.entries())):
        with pytest.raises(BadInput, match=f"{path} .*delete it"):
            look()
