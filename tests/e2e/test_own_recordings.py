"""docs/your-recordings.md, section 5: recordings of a robot that nobody simulates become a registered candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lerobot_datasets import make_v21
from posa_command import posa

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
# A network and a training that take seconds.
SMALL = [
    word
    for setting in (
        *("train.steps=4", "train.batch=8", "train.workers=1", "train.checkpoint_steps=4"),
        *("model.width=16", "model.flow_layers=1", "model.flow_width=16", "model.flow_heads=2"),
    )
    for word in ("--set", setting)
]
STEPS = ["version", "train", "bundle", "offline", "decide", "register"]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The workspace, and what `posa retrain --json` said."""
    folder = tmp_path_factory.mktemp("own")
    dataset = make_v21(folder / "tidy-recordings", video=False)
    code, made, errors = posa(folder / "unused", "init", "tidy", "--dataset", str(dataset))
    assert code == 0, errors
    assert made["next"] == "cd tidy && posa retrain"
    home = folder / "tidy" / ".posa"
    code, summary, errors = posa(home, "retrain", *SMALL)
    assert code == 0, errors
    return home, summary


def test_it_ends_as_no_decision_in_words(retrained: tuple[Path, dict[str, Any]]) -> None:
    home, summary = retrained
    assert [step["name"] for step in summary["steps"]] == [
        "version",
        "train",
        "bundle",
        "offline",
        "decide",
        "register",
    ]
    assert summary["decision"]["verdict"] == "no decision"
    reasons = " ".join(summary["decision"]["reasons"])
    assert reasons.startswith("robot trials are missing")
    assert "on one episode" in reasons
    assert (summary["evaluation"], summary["release"], summary["model_version"]) == (None, None, "1")
    assert summary["offline"]["episodes"] == 1
    assert not (home / "channel").exists()
    (page,) = home.glob("retrainings/*/report.html")
    assert "no evidence of success" in page.read_text(encoding="utf-8")


def test_the_same_command_again_reuses_every_step(retrained: tuple[Path, dict[str, Any]]) -> None:
    home, first = retrained
    code, again, errors = posa(home, "retrain", *SMALL)
    assert code == 0, errors
    assert {step["status"] for step in again["steps"]} == {"reused"}
    assert again["decision"] == first["decision"]


def test_the_commands_of_day_two_work_for_it(retrained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, summary = retrained
    code, compared, errors = posa(home, "evaluate", "offline", "--out", str(tmp_path / "offline"))
    assert code == 0, errors
    assert compared["figures"] == summary["offline"]
    code, report, errors = posa(home, "doctor")
    assert (code, report["sound"]) == (0, True), report
    code, _, errors = posa(home, "gc", "--dry-run")
    assert code == 0, errors
    code, fetched, errors = posa(home, "reproduce", "1", "--out", str(tmp_path / "again"), "--fetch-only")
    assert code == 0, errors
    assert fetched["model"] == "test_arm"
    code, answer, _ = posa(home, "promote", *SMALL)
    assert (code, answer["decision"]["verdict"], answer["release"]) == (3, "no decision", None)


def test_a_filter_that_leaves_nothing_is_refused_before_anything_begins(retrained: tuple[Path, dict[str, Any]]) -> None:
    home, _ = retrained
    before = sorted(path.name for path in (home / "ledger").rglob("*"))
    nothing = ["--set", "targets.test_arm.data.where={instruction: fold the towel}"]
    code, answer, _ = posa(home, "retrain", *SMALL, *nothing)
    assert code == 2
    assert "leaves none of 3 episodes" in answer["error"]["message"]
    assert sorted(path.name for path in (home / "ledger").rglob("*")) == before
