"""Log, channel, alias: one order, whoever releases, and wherever it is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import TARGET, Channel, make_bundle, make_record, promotion

from posa_vla.errors import Refused
from posa_vla.promotion.entries import Promotion, Release, Rollback
from posa_vla.promotion.log import PromotionLog
from posa_vla.promotion.releasing import release
from posa_vla.release.publisher import Publisher
from posa_vla.release.record import record_digest, sign_record


def _cut(*_: object) -> None:
    raise ConnectionError("cut")


@pytest.mark.parametrize("kind", [Promotion, Rollback])
@pytest.mark.parametrize(("cut", "reached"), [("append", 0), ("publish", 1), ("alias", 2), ("nothing", 3)])
def test_what_is_cut_off_has_done_what_comes_before_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Release], cut: str, reached: int
) -> None:
    channel, log, aliases = Channel(tmp_path, str(tmp_path / "channel")), PromotionLog(tmp_path / "log.jsonl"), []
    bundle = make_bundle(tmp_path)
    record = make_record(bundle.digest, rollback=kind is Rollback)
    envelope = sign_record(record, channel.publisher.record_signer)
    values = promotion(bundle.digest, record=record_digest(envelope)).model_dump(exclude={"kind"})
    place = (log, channel.publisher, envelope, bundle, kind(**values))
    with monkeypatch.context() as patch:
        for owner, name in ((PromotionLog, "append"), (Publisher, "publish")):
            if name == cut:
                patch.setattr(owner, name, _cut)
        if cut == "nothing":
            release(*place, aliases.append)
        else:
            with pytest.raises(ConnectionError):
                release(*place, _cut if cut == "alias" else aliases.append)
    assert [bool(log.entries()), channel.publisher.current(TARGET) == envelope, aliases == ["1"]] == [
        step < reached for step in range(3)
    ]
    release(*place, aliases.append)
    assert (len(log.entries()), channel.publisher.current(TARGET), aliases[-1]) == (1, envelope, "1")


def test_an_entry_that_says_something_else_than_its_record_is_refused(tmp_path: Path) -> None:
    channel, log = Channel(tmp_path, str(tmp_path / "channel")), PromotionLog(tmp_path / "log.jsonl")
    bundle = make_bundle(tmp_path)
    envelope = sign_record(make_record(bundle.digest), channel.publisher.record_signer)
    entry = promotion(bundle.digest, release=2, record=record_digest(envelope))
    with pytest.raises(Refused, match="nothing is released"):
        release(log, channel.publisher, envelope, bundle, entry, _cut)
    assert log.entries() == []
    assert channel.publisher.current(TARGET) is None
