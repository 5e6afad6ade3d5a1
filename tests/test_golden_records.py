"""Records as earlier code wrote them: what reads them today reads them as they were meant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posa_vla.dataset.versions.record import VersionRecord
from posa_vla.errors import BadInput, Refused
from posa_vla.evidence.record import read_evidence
from posa_vla.files import read_json, write_json
from posa_vla.promotion.gate import Decision
from posa_vla.promotion.log import PromotionLog
from posa_vla.robot.agent.slots import Slots, SlotState
from posa_vla.schema import parse

GOLDEN = Path(__file__).with_name("golden")


def _decision(path: Path) -> Decision:
    return parse(Decision, read_json(path), str(path))


def _data_version(path: Path) -> VersionRecord:
    return parse(VersionRecord, read_json(path), str(path))


def _slots(path: Path) -> SlotState:
    home = path.parent / f"{path.stem}-home"
    home.mkdir(exist_ok=True)
    shutil.copyfile(path, home / "state.json")
    return Slots(home).state


def test_evidence_of_the_first_version() -> None:
    evidence = read_evidence(GOLDEN / "evidence-1.json")
    assert evidence.policy_digest == "a" * 64
    assert evidence.suite["execute"] == 4
    assert [(row.scene_seed, row.success, row.steps, row.jerk, row.return_code) for row in evidence.rows] == [
        (3776068261, True, 21, 0.0021, "ok"),
        (2681574249, False, 60, None, "ok"),
        (3729857979, False, 4, None, "nan-action"),
    ]
    assert not evidence.complete(), "one of four episodes is missing, and one has no valid outcome"
    # Decisions and release records name it so.
    assert evidence.digest == "d47a2d43f8919e1a762993846f32712ed74a961635748796d832ec2974ab8bda"


def test_a_decision_of_the_first_version() -> None:
    decision = _decision(GOLDEN / "decision-1.json")
    assert (decision.target, decision.verdict) == ("bench-pick", "reject")
    assert [(c.name, c.passed, c.bound) for c in decision.criteria] == [
        ("success floor", False, 0.229),
        ("against the champion", None, None),
    ]
    assert (decision.gate.success_floor, decision.gate.min_episodes) == (0.25, 20)
    assert decision.candidate_evidence == read_evidence(GOLDEN / "evidence-1.json").digest
    # Promotion logs and release records name it so.
    assert decision.digest == "8d7fbd505d88f1669f893f94e8fd239232941c2faf0f7e5bc82ecd1ec6f1bf71"


def test_a_data_version_of_the_first_version() -> None:
    record = _data_version(GOLDEN / "data-version-1.json")
    assert (record.version, record.embodiment) == ("d" * 64, "sim_arm6")
    entries = {digest[0]: (entry.number, entry.frames, entry.quarantined) for digest, entry in record.episodes.items()}
    assert entries == {"e": (0, 21, False), "0": (1, 3, True)}
    assert record.splits["train"] == {"episodes": 1, "frames": 21}
    assert record.kept == ["3" * 64]


def test_a_robot_s_slots_of_the_first_version(tmp_path: Path) -> None:
    shutil.copyfile(GOLDEN / "robot-state-1.json", tmp_path / "robot-state-1.json")
    state = _slots(tmp_path / "robot-state-1.json")
    assert (state.active, state.pending) == ("a", "b")
    assert {
        slot: (held.release, held.bundle_digest[0], held.record_digest[0]) for slot, held in state.slots.items()
    } == {
        "a": (3, "4", "5"),
        "b": (4, "6", "7"),
    }
    assert state.attempts is not None
    assert (state.attempts.record_digest, state.attempts.count) == ("7" * 64, 1)


def test_a_promotion_log_of_the_first_version() -> None:
    log = PromotionLog(GOLDEN / "promotion-log-1.jsonl")
    assert log.verify() == 5
    assert [entry["kind"] for entry in log.entries()] == ["no decision", "reject", "promote", "promote", "rollback"]
    champion = log.champion()
    assert champion is not None
    assert (champion["release"], champion["model_version"], champion["reasons"]) == (3, "5", ["why 5"])


def test_a_promotion_log_of_the_first_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    shutil.copyfile(GOLDEN / "promotion-log-1.jsonl", path)
    entry = {**PromotionLog(path).entries()[-1], "key": "another"}
    for name in ("schema_version", "number", "time", "previous"):
        del entry[name]
    assert PromotionLog(path).append(entry)["number"] == 6
    assert path.read_bytes().startswith((GOLDEN / "promotion-log-1.jsonl").read_bytes())
    assert PromotionLog(path).verify() == 6


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("evidence-1.json", read_evidence),
        ("decision-1.json", _decision),
        ("data-version-1.json", _data_version),
        ("robot-state-1.json", _slots),
    ],
)
@pytest.mark.parametrize("change", [{"schema_version": 99}, {"of_tomorrow": 1}])
def test_a_record_of_tomorrow_is_refused_by_name(
    name: str, read: Callable[[Path], object], change: dict[str, int], tmp_path: Path
) -> None:
    write_json(tmp_path / name, {**json.loads((GOLDEN / name).read_text()), **change})
    with pytest.raises((BadInput, Refused), match=next(iter(change))):
        read(tmp_path / name)
