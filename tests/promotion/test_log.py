from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posa_vla.errors import BadInput
from posa_vla.promotion.log import PromotionLog


def event(number: int, kind: str = "promote") -> dict[str, Any]:
    return {"key": f"k{number}", "kind": kind, "bundle": f"b{number}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = PromotionLog(tmp_path / "log.jsonl")
    for number in range(4):
        log.append(event(number, "reject" if number == 3 else "promote"))
    return tmp_path / "log.jsonl"


def test_entries_stay_in_order_and_the_last_promotion_is_champion(path: Path) -> None:
    log = PromotionLog(path)
    assert [e["bundle"] for e in log.entries()] == ["b0", "b1", "b2", "b3"]
    champion = log.champion()
    assert champion is not None
    assert champion["bundle"] == "b2"
    log.append(event(9, "rollback") | {"bundle": "b1"})
    again = log.champion()
    assert again is not None
    assert again["bundle"] == "b1"


def test_an_empty_log_has_no_champion(tmp_path: Path) -> None:
    log = PromotionLog(tmp_path / "log.jsonl")
    assert log.champion() is None
    assert log.verify() == 0


def test_the_head_is_what_the_next_entry_holds_of_the_line_before(path: Path) -> None:
    log, empty = PromotionLog(path), PromotionLog(path.with_name("other.jsonl"))
    assert empty.head() == "0" * 64 == log.entries()[0]["previous"]
    head = log.head()
    assert log.append(event(7))["previous"] == head
    assert log.head() != head
    path.write_bytes(path.read_bytes().replace(b'"b1"', b'"bX"'))
    with pytest.raises(BadInput, match="chain is broken"):
        log.head()


def test_the_same_key_is_one_entry(path: Path) -> None:
    before = path.read_bytes()
    entry = PromotionLog(path).append(event(1))
    assert entry["number"] == 2
    assert path.read_bytes() == before


@pytest.mark.fault
@pytest.mark.parametrize("change", ["edit", "remove", "swap", "insert"])
def test_a_changed_past_breaks_the_chain(path: Path, change: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "edit":
        lines[1] = lines[1].replace(b'"b1"', b'"bX"')
    elif change == "remove":
        del lines[1]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines.insert(1, lines[0])
    path.write_bytes(b"".join(lines))
    log = PromotionLog(path)
    with pytest.raises(BadInput, match=r"line [23]: the chain is broken"):
        log.verify()
    with pytest.raises(BadInput, match="chain is broken"):
        log.append(event(9))
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.fault
def test_every_cut_of_the_last_line_is_taken_away(path: Path) -> None:
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        log = PromotionLog(path)
        assert log.verify() == 3
        log.append(event(3, "reject"))
        assert [e["bundle"] for e in log.entries()] == ["b0", "b1", "b2", "b3"]
        assert json.loads(path.read_text().splitlines()[-1])["number"] == 4
