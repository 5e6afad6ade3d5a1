"""The page of a retraining: what it tells, what it leaves out, and that nothing in it can do harm."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from candidates import TRAINED
from offline_records import offline_record
from PIL import Image
from report_facts import CHANGES, evidence, facts
from untrained import arm_params

from posa_vla.errors import BadInput
from posa_vla.evidence.intervals import clopper_pearson
from posa_vla.evidence.record import EpisodeRow, Evidence, evidence_path, write_evidence
from posa_vla.evidence.summary import Summary
from posa_vla.params import GateParams
from posa_vla.params_file import load_params
from posa_vla.pipeline.records import Candidate, Evaluated
from posa_vla.pipeline.report import gather
from posa_vla.pipeline.report import page as report_page
from posa_vla.pipeline.report.commits import commits_between
from posa_vla.pipeline.report.facts import EpisodeShown
from posa_vla.pipeline.report.gather import gather_facts
from posa_vla.pipeline.report.page import make_page, write_report
from posa_vla.pipeline.report.preset import preset_of
from posa_vla.pipeline.report.words import Links, retraining_description
from posa_vla.promotion.champion import promotion_log
from posa_vla.promotion.entries import Promotion
from posa_vla.promotion.gate import decide
from posa_vla.promotion.registry import RegisteredVersion
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>\"'&"
LINKS = Links(run="#/run", report="#/report", videos="#/videos")


class Elements(HTMLParser):
    """Elements, their addresses, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self._style = tag == "style"
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "poster", "srcset", "data"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data + " "


def titles(page: str) -> list[str]:
    return [part.split("</h2>")[0] for part in page.split("<h2>")[1:]]


def test_a_page_without_rollouts_says_that_nobody_knows_success() -> None:
    record = offline_record(0.3, 0.7, instruction=HOSTILE)
    films = {1: b"film"}
    page = Elements(make_page(facts(success=None, compared=None, champion=None, offline=record, films=films)))
    assert "was not tried" in page.text
    for told in ("no evidence of success", "0.500 of what the channels move", "1 of 2", "3.2"):
        assert told in page.text
    assert "script" not in page.names
    assert not page.handlers
    one = Elements(make_page(facts(champion=None, offline=offline_record(0.3)))).text
    assert "On one episode, over a horizon of 2 steps (0.2 s)" in one
    none = Elements(make_page(facts(champion=None, offline=offline_record()))).text
    assert "Nothing is known: no episode is held out" in none
    broken = Elements(make_page(facts(champion=None, offline=offline_record(None)))).text
    assert "actions that are no numbers" in broken


def shown(**row: Any) -> EpisodeShown:
    value = {"scene_seed": 7, "success": False, "steps": 20, "path_length": 0.1, **row}
    return EpisodeShown(row=EpisodeRow(**value), champion_success=True, video=b"film", overlay=b"picture")


def test_the_page_has_the_numbers_of_the_evidence() -> None:
    page = Elements(make_page(facts(solved=27, champion=20)))
    for solved in (27, 20):
        low, high = clopper_pearson(solved, 30)
        assert f"{solved} of 30 scenes" in page.text
        assert f"{100 * low:.0f} to {100 * high:.0f} %" in page.text
    assert "Promote" in page.text
    assert "the candidate alone solved 7, the champion alone 0" in page.text


def test_a_first_candidate_has_nothing_to_be_compared_with() -> None:
    page = make_page(facts(champion=None))
    assert titles(page) == ["Verdict", "Success", "What it is made of"]
    assert "There was no champion" in page


def test_what_changed_since_the_champion_is_told() -> None:
    page = make_page(facts(episodes=[shown()], recorded=4))
    assert titles(page) == [
        *("Verdict", "Success", "Worst episodes", "Attention"),
        *("Data since the champion", "Parameters since the champion", "Code since the champion", "What it is made of"),
    ]
    text = Elements(page).text
    for told in ("data-v2", "data-v3", "train.steps", "absent", "c735dd0 Tests: one more", "the champion solved it"):
        assert told in text


def test_pictures_of_a_policy_without_anchors_are_not_said_to_show_any() -> None:
    with_anchors = Elements(make_page(facts(episodes=[shown()], recorded=1))).text
    without = Elements(make_page(facts(episodes=[shown()], recorded=1, anchored=False))).text
    assert "the anchors (orange: what the task is about" in with_anchors
    assert "orange" not in without
    assert "The policy has no anchors: model.gate is none" in without


def test_what_is_not_known_of_the_champion_is_said() -> None:
    unknown = {"data": "no data version", "parameters": "no parameters there", "commits": "no checkout"}
    changes = CHANGES.model_copy(update={"data": None, "parameters": None, "commits": None, "unknown": unknown})
    text = Elements(make_page(facts(changes=changes))).text
    assert all(reason in text for reason in unknown.values())


def compared(workspace: Workspace, ours: Evidence, theirs: Evidence) -> Evaluated:
    """Both evidence records, kept where a retraining keeps them."""
    for kept in (ours, theirs):
        write_evidence(evidence_path(workspace, kept.digest), kept)
    return Evaluated(
        candidate=Candidate(source=TRAINED, digest=ours.policy_digest),
        evidence=ours.digest,
        champion=theirs.policy_digest,
        champion_evidence=theirs.digest,
        summary=Summary.of(ours),
        reports="evaluations/e",
    )


def champion(bundle: str, version: str) -> Promotion:
    return Promotion(
        key="k", bundle=bundle, release=1, record="r", decision="d", model_version=version, reasons=["it passed"]
    )


def test_a_champion_that_the_registry_has_lost_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(uri: str, model: str, version: str) -> RegisteredVersion:
        raise BadInput(f"model {model!r} has no version {version!r}")

    monkeypatch.setattr(gather, "registered_version", lost)
    workspace, ours, theirs = Workspace.open(Settings(home=tmp_path)), evidence("a", {1}), evidence("b", {1})
    for entry, reason in (
        (None, "does not name its model version"),
        (champion(theirs.policy_digest, "7"), "has no version"),
    ):
        if entry is not None:
            promotion_log(workspace, "t").append(entry)
        decision = decide("t", GateParams(), ours, theirs)
        found = gather_facts(workspace, arm_params(), decision, compared(workspace, ours, theirs), facts().candidate)
        page = make_page(found)
        assert titles(page)[2] == "Since the champion"
        assert reason in page


@pytest.mark.parametrize("params", [b"{", b"[1]", b"\xff"])
def test_a_damaged_past_of_the_champion_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: bytes
) -> None:
    """Its parameters are no JSON object, and the data's history is no git repository."""
    registered = RegisteredVersion("b", "bb", "unknown", False, params, "r")
    monkeypatch.setattr(gather, "registered_version", lambda *_: registered)
    workspace, ours, theirs = Workspace.open(Settings(home=tmp_path)), evidence("a", {1}), evidence("b", {1})
    workspace.repository.mkdir()
    (workspace.repository / "HEAD").write_text("damaged")
    promotion_log(workspace, "t").append(champion(theirs.policy_digest, "7"))
    decision = decide("t", GateParams(), ours, theirs)
    found = gather_facts(workspace, arm_params(), decision, compared(workspace, ours, theirs), facts().candidate)
    assert found.changes is not None
    assert (found.changes.data, found.changes.parameters) == (None, None)
    assert "parameters of model version 7 cannot be read" in Elements(make_page(found)).text
    assert found.changes.unknown["data"]


def test_scenes_without_a_valid_outcome_are_nobodys_win(tmp_path: Path) -> None:
    workspace, ours, theirs = Workspace.open(Settings(home=tmp_path)), evidence("a", {0, 1}), evidence("b", {2})
    crashed = theirs.rows[0].model_copy(update={"return_code": "crashed"})
    theirs = theirs.model_copy(update={"rows": [crashed, *theirs.rows[1:]]})
    decision = decide("t", GateParams(), ours, theirs)
    found = gather_facts(workspace, arm_params(), decision, compared(workspace, ours, theirs), facts().candidate)
    assert found.compared == (1, 1)  # each alone solved one of the scenes that both finished


def test_hostile_text_stays_text_and_nothing_is_loaded_from_elsewhere() -> None:
    told = {"parameters": {HOSTILE: (HOSTILE, HOSTILE)}, "commits": [HOSTILE]}
    changes = CHANGES.model_copy(update={**told, "data": None, "unknown": {"data": HOSTILE}})
    over = {"target": HOSTILE, "preset": HOSTILE, "hardware": HOSTILE, "task": HOSTILE, "embodiment": HOSTILE}
    page = make_page(facts(**over, changes=changes, episodes=[shown(return_code=HOSTILE)], recorded=1))
    found = Elements(page)
    assert "script" not in found.names
    assert found.handlers == []
    assert found.addresses
    assert all(address.startswith("data:") for address in found.addresses)
    assert found.text.count("<script>alert(1)</script>") >= 8
    assert "://" not in page


def test_a_description_holds_no_markup_of_others() -> None:
    text = retraining_description(facts(target="[x](http://evil.example)<b>", preset="*a*"), LINKS)
    assert r"\[x\](http://evil.example)\<b\>" in text
    assert r"\*a\*" in text
    assert text.startswith("Promote. The candidate")
    assert "[Report](#/report)" in text
    assert "data-v3" in text


def test_a_picture_that_cannot_be_drawn_costs_neither_the_page_nor_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib.figure

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", broken)
    page = write_report(tmp_path, facts()).read_text()
    assert "Promote" in Elements(page).text
    assert "could not be made (RuntimeError: no font)" in page
    assert "no font" in capsys.readouterr().err
    assert titles(page)[1] == "Success"
    assert not (tmp_path / "success.png").exists()


def test_a_page_and_its_picture_are_files(tmp_path: Path) -> None:
    page = write_report(tmp_path / "new", facts())
    assert page.name == "report.html"
    with Image.open(page.with_name("success.png")) as picture:
        assert picture.width > 500


def test_a_new_section_needs_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    section = report_page.Section("Calibration", "<p>of the cameras")
    added: Callable[[Any], report_page.Section | None] = lambda facts: section  # noqa: E731 # as a module would have it
    monkeypatch.setattr(report_page, "SECTIONS", (*report_page.SECTIONS, added))
    assert titles(make_page(facts()))[-1] == "Calibration"


def test_the_worst_recorded_episodes_come_first_and_media_are_inside(tmp_path: Path) -> None:
    workspace = Workspace.open(Settings(home=tmp_path))
    ours, theirs = evidence("a", {0, 1, 4}), evidence("b", {0, 1, 3})
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, format="PNG")
    for i in range(6):  # of the scenes 2 to 5 the candidate solves 4 alone, and the champion 3
        name = f"{'solved' if i in {0, 1, 4} else 'failed'}-{100 + i}"
        workspace.storage.put(f"evaluations/e/videos/{name}.mp4", b"film")
        workspace.storage.put(f"evaluations/e/overlays/{name}.png", picture.getvalue())
    decision = decide("t", GateParams(), ours, theirs)
    found = gather_facts(workspace, arm_params(), decision, compared(workspace, ours, theirs), facts().candidate)
    assert [e.row.scene_seed for e in found.episodes] == [103, 102, 105]
    assert (found.recorded, found.compared) == (6, (1, 1))
    assert all(e.video == b"film" and e.overlay == picture.getvalue() for e in found.episodes)


def test_parameters_are_told_by_the_preset_that_they_come_from() -> None:
    file = ROOT / "params.yaml"
    assert preset_of(load_params(file, "demo")) == "demo"
    assert preset_of(load_params(file, "tiny", ["train.steps=60"])) == "tiny, train.steps 60"


def test_commits_between_two_states_are_listed_where_both_are_known(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    heads = []
    for message in ("one", "two", "three"):
        git("commit", "-q", "--allow-empty", "-m", message)
        heads.append(git("rev-parse", "HEAD"))
    lines = commits_between(heads[0], heads[2], tmp_path)
    assert lines is not None
    assert [line.split(" ", 1)[1] for line in lines] == ["three", "two"]
    assert commits_between(heads[2], heads[2], tmp_path) == []
    assert commits_between("f" * 40, heads[2], tmp_path) is None
    assert commits_between("unknown", heads[2], tmp_path) is None
    assert commits_between("--output=x", heads[2], tmp_path) is None
    assert commits_between(heads[0], heads[2], tmp_path / "elsewhere") is None
