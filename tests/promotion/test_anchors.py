"""Who may write the promotion log can make its whole chain anew; signed records and the channel say what it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from releases import TARGET, make_bundle, make_record, make_record_2, promotion
from securesystemslib.signer import CryptoSigner

from posa_vla.cli.doctor.command import LOOKS
from posa_vla.errors import BadInput
from posa_vla.files import canonical_json, sha256_bytes, write_bytes
from posa_vla.promotion.anchors import require_anchored
from posa_vla.promotion.champion import promotion_log, settle
from posa_vla.promotion.entries import Rollback, Verdict
from posa_vla.promotion.kept_records import records_folder
from posa_vla.promotion.log import PromotionLog
from posa_vla.promotion.releasing import release
from posa_vla.release.keys import public_hex
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import record_digest, sign_record
from posa_vla.settings import Settings
from posa_vla.workspace import Workspace

pytestmark = pytest.mark.fault

Entries = list[dict[str, Any]]


@dataclass
class Past:
    """A target's releases: 1 and 2, a candidate that was rejected, a rollback to 1; 2 is withdrawn."""

    workspace: Workspace
    version: int
    envelopes: list[Path] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.workspace.promotions / TARGET / "log.jsonl"

    def draft(self, number: int, name: str, **changes: Any) -> Path:
        """Signs a record and keeps it, as a release does before it asks for approvals."""
        log, bundle = promotion_log(self.workspace, TARGET), make_bundle(self.workspace.home, number)
        made = {"decision": f"{len(self.envelopes):064x}", **changes}
        if self.version == 2:
            made |= {"sequence": len(self.envelopes) + 1, "log_head": log.head()}
        record = (make_record_2 if self.version == 2 else make_record)(bundle.digest, number, **made)
        path = records_folder(self.workspace, TARGET) / name
        write_bytes(path, sign_record(record, self.publisher.record_signer))
        self.envelopes.append(path)
        return path

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.workspace.channel, self.workspace.keys)

    def release(self, number: int, name: str, rollback: bool = False) -> None:
        envelope = self.draft(number, name, rollback=rollback).read_bytes()
        bundle = make_bundle(self.workspace.home, number)
        values = promotion(
            bundle.digest,
            number,
            key=record_digest(envelope),
            record=record_digest(envelope),
            decision=f"{len(self.envelopes) - 1:064x}",
        ).model_dump(exclude={"kind"})
        entry = Rollback(**values) if rollback else promotion(**values)
        release(promotion_log(self.workspace, TARGET), self.publisher, envelope, bundle, entry, lambda version: None)

    def remake(self, change: Callable[[Entries], Entries]) -> None:
        """Changes the log and makes its chain anew, so that it is whole."""
        entries, previous = [json.loads(line) for line in self.log.read_bytes().splitlines()], "0" * 64
        lines = []
        for number, entry in enumerate(change(entries), 1):
            lines.append(canonical_json({**entry, "number": number, "previous": previous}))
            previous = sha256_bytes(lines[-1])
        self.log.write_bytes(b"".join(line + b"\n" for line in lines))
        assert promotion_log(self.workspace, TARGET).verify() == len(lines)


def make_past(folder: Path, version: int) -> Past:
    made = Past(Workspace.open(Settings(home=folder / "home")), version)
    made.release(1, "1.dsse.json")
    made.release(2, "2.dsse.json")
    rejected = promotion("c" * 64).model_dump(include=set(Verdict.model_fields))
    promotion_log(made.workspace, TARGET).append(Verdict(**{**rejected, "kind": "reject"}))
    made.release(1, "rollbacks/2-to-1.dsse.json", rollback=True)
    return made


@pytest.fixture(scope="module", params=[1, 2])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Past:
    return make_past(tmp_path_factory.mktemp("past"), request.param)


@pytest.fixture
def past(kept: Past) -> Iterator[Past]:
    """The same past for every attack, which changes the log alone."""
    before = kept.log.read_bytes()
    yield kept
    kept.log.write_bytes(before)


def _again(entries: Entries) -> Entries:
    return [*entries, {**entries[1], "key": "again"}]


def _with(number: int, **changes: Any) -> Callable[[Entries], Entries]:
    return lambda entries: [{**e, **changes} if i == number else e for i, e in enumerate(entries)]


# What somebody makes of the log, the versions of records that show it, and what is said.
ATTACKS: dict[str, tuple[Callable[[Entries], Entries], set[int], str]] = {
    "the rollback never was": (lambda e: e[:-1], {1, 2}, "does not know"),
    "the withdrawn release is promoted again": (_again, {1, 2}, "two entries name the same signed record"),
    "the rollback came first": (
        lambda e: [e[0], e[3], e[2], e[1]],
        {1, 2},
        "in which the channel published",
    ),
    "another decision": (_with(1, decision="d" * 64), {1, 2}, "signed record"),
    "another bundle": (_with(1, bundle="b" * 64), {1, 2}, "signed record"),
    "another number": (_with(1, release=3), {1, 2}, "signed record"),
    "the rollback was a promotion": (_with(3, kind="promote"), {1, 2}, "signed record"),
    "a record that nobody signed": (_with(0, record="9" * 64), {1, 2}, "no signed record"),
    "the rejection never was": (lambda e: [e[0], e[1], e[3]], {2}, "was drafted when its head was"),
    "another reason": (_with(0, reasons=["friendship"]), {2}, "was drafted when its head was"),
    "nothing ever was": (lambda e: [], {1, 2}, "know"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_chain_that_was_made_anew_is_found_wherever_the_log_is_trusted(past: Past, attack: str) -> None:
    change, versions, words = ATTACKS[attack]
    past.remake(change)
    shown = past.publisher.current(TARGET)
    if past.version not in versions:
        settle(past.workspace, TARGET)
        return
    with pytest.raises(BadInput, match=words) as caught:
        settle(past.workspace, TARGET)
    assert "from a backup" in str(caught.value)
    with pytest.raises(BadInput, match=words):
        dict(LOOKS)["promotion log"](past.workspace)
    assert past.publisher.current(TARGET) == shown


@pytest.mark.parametrize("version", [1, 2])
def test_the_channel_remembers_what_log_and_records_have_lost_together(tmp_path: Path, version: int) -> None:
    """The folder of promotions is put back as it was before the rollback, and another record is released on it."""
    past = make_past(tmp_path, version)
    past.remake(lambda entries: entries[:-1])
    (records_folder(past.workspace, TARGET) / "rollbacks" / "2-to-1.dsse.json").unlink()
    with pytest.raises(BadInput, match="know"):
        settle(past.workspace, TARGET)
    past.release(3, "3.dsse.json")
    with pytest.raises(BadInput, match="does not know the rollback to release 1"):
        settle(past.workspace, TARGET)


def test_records_show_their_order_where_the_channel_has_forgotten_it(tmp_path: Path) -> None:
    log, signer = PromotionLog(tmp_path / "log.jsonl"), CryptoSigner.generate_ed25519()
    envelopes = [sign_record(make_record_2("a" * 64, number), signer) for number in (1, 2)]
    for number, envelope in ((2, envelopes[1]), (1, envelopes[0])):
        log.append(promotion("a" * 64, number, key=record_digest(envelope), record=record_digest(envelope)))
    with pytest.raises(BadInput, match="not in the order of their sequences"):
        require_anchored(log, TARGET, envelopes, [], public_hex(signer))


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_sound_goes_on(tmp_path: Path, version: int) -> None:
    """A draft that waits, records of both versions, an editor's copy and a stranger's record hinder nothing."""
    past = make_past(tmp_path, version)
    assert settle(past.workspace, TARGET) is False
    past.draft(3, "3.dsse.json")
    records = records_folder(past.workspace, TARGET)
    (records / "notes.dsse.json").write_text("{}")
    theirs = sign_record(make_record_2("a" * 64, 9, log_head="7" * 64), CryptoSigner.generate_ed25519())
    write_bytes(records / "theirs.dsse.json", theirs)
    past.version = 3 - past.version
    past.release(4, "4.dsse.json")
    assert settle(past.workspace, TARGET) is False
    finding = dict(LOOKS)["promotion log"](past.workspace)
    assert (finding.status, finding.detail.split(", ")[1:]) == (
        "sound",
        ["chain whole", "as the signed records and the channel have it"],
    )
