from __future__ import annotations

import json
from pathlib import Path

import pytest
from releases import promotion

from posa_vla.errors import BadInput
from posa_vla.files import canonical_json
from posa_vla.promotion import log as log_module
from posa_vla.promotion.entries import Entry, Rollback, Verdict, read_entry
from posa_vla.promotion.log import PromotionLog


def event(number: int, kind: str = "promote") -> Entry:
    entry = promotion(f"b{number}", key=f"k{number}")
    if kind == "promote":
        return entry
    return read_entry({**entry.model_dump(include=set(Verdict.model_fields)), "kind": kind}, "event")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = PromotionLog(tmp_path / "log.jsonl")
    for number in range(4):
        log.append(event(number, "reject" if number == 3 else "promote"))
    return tmp_path / "log.jsonl"


def test_entries_stay_in_order_and_the_last_promotion_is_champion(path: Path) -> None:
    log = PromotionLog(path)
    assert [e.bundle for e in log.entries()] == ["b0", "b1", "b2", "b3"]
    champion = log.champion()
    assert champion is not None
    assert champion.bundle == "b2"
    log.append(Rollback(**{**dict(promotion("b1", key="k9")), "kind": "rollback"}))
    again = log.champion()
    assert again is not None
    assert again.bundle == "b1"


def test_an_empty_log_has_no_champion(tmp_path: Path) -> None:
    log = PromotionLog(tmp_path / "log.jsonl")
    assert log.champion() is None
    assert log.verify() == 0


def test_the_head_is_what_the_next_entry_holds_of_the_line_before(path: Path) -> None:
    log, empty = PromotionLog(path), PromotionLog(path.with_name("other.jsonl"))
    assert empty.head() == "0" * 64 == log.entries()[0].previous
    head = log.head()
    assert log.append(event(7)).previous == head
    assert log.head() != head
    path.write_bytes(path.read_bytes().replace(b'"b1"', b'"bX"'))
    with pytest.raises(BadInput, match="chain is broken"):
        log.head()


def test_the_same_key_is_one_entry(path: Path) -> None:
    before = path.read_bytes()
    entry = PromotionLog(path).append(event(1))
    assert entry.number == 2
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
        assert [e.bundle for e in log.entries()] == ["b0", "b1", "b2", "b3"]
        assert json.loads(path.read_text().splitlines()[-1])["number"] == 4


GOLDEN = Path(__file__).parents[1] / "golden" / "promotion-log-1.jsonl"


def test_the_same_events_are_the_same_lines_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module.time, "strftime", lambda *_: "2026-11-24T09:30:00Z")
    log = PromotionLog(tmp_path / "log.jsonl")
    for entry in PromotionLog(GOLDEN).entries():
        log.append(entry.model_copy(update={"number": 0, "time": "", "previous": ""}))
    assert (tmp_path / "log.jsonl").read_bytes() == GOLDEN.read_bytes()
    assert [entry.kind for entry in log.entries()] == ["promote", "reject", "promote", "rollback", "no decision"]
    champion = log.champion()
    assert isinstance(champion, Rollback)
    assert (champion.release, champion.reasons) == (1, ["drops cubes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "promoted"}, "line 1: an entry of kind 'promoted': did you mean 'promote'"),
        ({"relase": 2}, "line 1: unknown key relase; did you mean 'release'"),
        ({"release": "first"}, "line 1: release: "),
    ],
)
def test_a_whole_chain_with_an_entry_that_nobody_knows_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    first = json.loads(GOLDEN.read_text().splitlines()[0])
    (tmp_path / "log.jsonl").write_bytes(canonical_json({**first, **change}) + b"\n")
    with pytest.raises(BadInput, match=message):
        PromotionLog(tmp_path / "log.jsonl").champion()
