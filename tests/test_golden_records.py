"""Records as earlier code wrote them: what reads them today reads them as they were meant.

Every record with a `schema_version` has a golden file for each version that is read, `tests/golden/<record>-<n>.json`.
It holds what the code of that version wrote, and never changes again.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from posa_vla.code_root import CODE_ROOT, PACKAGE
from posa_vla.dataset.shards.manifest import PreparedManifest, SplitCount
from posa_vla.dataset.validation.report import read_report
from posa_vla.dataset.versions.record import VersionRecord
from posa_vla.episodes.store.quarantine import Release
from posa_vla.errors import BadInput
from posa_vla.evidence.record import read_evidence
from posa_vla.files import read_json, write_json
from posa_vla.model.config import ModelConfig
from posa_vla.model.normalisation import Normalisation
from posa_vla.promotion.entries import Promotion, Rollback, Verdict
from posa_vla.promotion.gate import Decision
from posa_vla.release.record import ReleaseRecord
from posa_vla.robot.settings import RobotSettings
from posa_vla.schema import Closed, parse
from posa_vla.yaml_file import read_yaml

GOLDEN = Path(__file__).with_name("golden")
# Records that never leave a process.
UNWRITTEN = {"RetrainingFacts"}


def _signed(version: int) -> Any:
    envelope = read_json(GOLDEN / f"release-record-{version}.dsse.json")
    return json.loads(base64.b64decode(envelope["payload"]))["predicate"]


def _logged(kind: str) -> Callable[[int], Any]:
    lines = [json.loads(line) for line in (GOLDEN / "promotion-log-1.jsonl").read_text().splitlines()]
    return lambda version: next(v for v in lines if (v["kind"], v["schema_version"]) == (kind, version))


def _config(version: int) -> Any:
    if version > 1:
        return read_json(GOLDEN / f"model-config-{version}.json")
    value = read_json(GOLDEN / "policy-1/config.json")
    del value["params"]["preset"]  # the only one that there was: it is read as scratch encoders
    return value


def _normalisation(version: int) -> Any:
    # The first version did not name itself.
    return read_json(GOLDEN / ("policy-1/normalisation.json" if version == 1 else f"normalisation-{version}.json"))


# Records whose golden is a part of a larger file, or no JSON.
INSIDE: dict[type[Closed], Callable[[int], Any]] = {
    ModelConfig: _config,
    Normalisation: _normalisation,
    Promotion: _logged("promote"),
    ReleaseRecord: _signed,
    RobotSettings: lambda version: read_yaml(GOLDEN / f"robot-{version}.yaml"),
    Rollback: _logged("rollback"),
    Verdict: _logged("reject"),
}


def _subclasses(parent: type[Closed]) -> Iterator[type[Closed]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _records() -> dict[str, type[Closed]]:
    """Class name -> record with a `schema_version`, of all modules of the package; what others build on is left out."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if re.search(r"^    schema_version: ", file.read_text(), re.MULTILINE):
            importlib.import_module(".".join(file.relative_to(CODE_ROOT).with_suffix("").parts))
    ours = (c for c in _subclasses(Closed) if c.__module__.startswith("posa_vla.") and not c.__name__.startswith("_"))
    return {c.__name__: c for c in ours if "schema_version" in c.model_fields and c.__name__ not in UNWRITTEN}


def _file(record: type[Closed]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", record.__name__).lower()


def _holds(read: Any, written: Any) -> bool:
    """Whether all that was written has been read; what a later version added has its default."""
    if isinstance(written, dict):
        return isinstance(read, dict) and all(key in read and _holds(read[key], part) for key, part in written.items())
    if isinstance(written, list):
        return len(read) == len(written) and all(map(_holds, read, written))
    return bool(read == written)


def test_every_version_of_every_record_has_a_golden_file_that_reads_as_it_was_written() -> None:
    records = _records()
    assert {"ValidationReport", "PreparedManifest", "BundleManifest", "Kept", "StoreState", "Tree"} <= records.keys()
    for record in records.values():
        for version in get_args(record.model_fields["schema_version"].annotation):
            inside = INSIDE.get(record)
            path = GOLDEN / f"{_file(record)}-{version}.json"
            assert inside or path.is_file(), (
                f"{record.__module__}.{record.__name__} reads schema_version {version}, and {path.name} is missing in "
                f"{GOLDEN}: put a file there that today's code wrote"
            )
            value = inside(version) if inside else read_json(path)
            read = parse(record, value, path.name)
            assert read.model_dump()["schema_version"] == version
            assert _holds(read.model_dump(mode="json"), value), f"{path.name} is read otherwise"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*-[0-9].json")), ids=lambda path: path.name)
@pytest.mark.parametrize("change", [{"schema_version": 99}, {"of_tomorrow": 1}])
def test_a_record_of_tomorrow_is_refused_by_name(path: Path, change: dict[str, int]) -> None:
    (record,) = [record for record in _records().values() if _file(record) == path.stem[:-2]]
    value = {**read_json(path), **change}
    with pytest.raises(BadInput, match=next(iter(change))):
        parse(record, value, path.name)


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
    named = "d47a2d43f8919e1a762993846f32712ed74a961635748796d832ec2974ab8bda"  # pragma: allowlist secret
    assert evidence.digest == named


def test_a_decision_of_the_first_version() -> None:
    decision = parse(Decision, read_json(GOLDEN / "decision-1.json"), "decision-1.json")
    assert (decision.target, decision.verdict) == ("bench-pick", "reject")
    assert [(c.name, c.passed, c.bound) for c in decision.criteria] == [
        ("success floor", False, 0.229),
        ("against the champion", None, None),
    ]
    assert (decision.gate.success_floor, decision.gate.min_episodes) == (0.25, 20)
    assert decision.candidate_evidence == read_evidence(GOLDEN / "evidence-1.json").digest
    # Promotion logs and release records name it so.
    named = "8d7fbd505d88f1669f893f94e8fd239232941c2faf0f7e5bc82ecd1ec6f1bf71"  # pragma: allowlist secret
    assert decision.digest == named


def test_a_decision_of_the_second_version_has_a_place_in_the_account() -> None:
    decision = parse(Decision, read_json(GOLDEN / "decision-2.json"), "decision-2.json")
    assert decision.tried is not None
    assert (decision.tried.number, decision.tried.verdict) == (1, "promote")
    assert [criterion.kind for criterion in decision.gate.criteria or []] == ["floor", "superior"]
    named = "441d64dcaa9ecdd81eafc52fdfb37587838dccf5c2bde089b300de108c88c26d"  # pragma: allowlist secret
    assert decision.digest == named


def test_a_data_version_of_the_first_version() -> None:
    record = parse(VersionRecord, read_json(GOLDEN / "version-record-1.json"), "version-record-1.json")
    assert (record.version, record.embodiment) == ("d" * 64, "sim_arm6")
    entries = {digest[0]: (entry.number, entry.frames, entry.quarantined) for digest, entry in record.episodes.items()}
    assert entries == {"e": (0, 21, False), "0": (1, 3, True)}
    assert record.splits["train"] == SplitCount(episodes=1, frames=21)
    assert record.kept == ["3" * 64]


def test_a_validation_report_of_every_version() -> None:
    first, second, third = (read_report(GOLDEN / f"validation-report-{version}.json") for version in (1, 2, 3))
    assert first.aside() == {("b" * 64, 1)}
    assert second.aside() == third.aside() == {("b" * 64, 1), ("c" * 64, 7)}
    assert [row.kept_aside for row in third.quarantined] == [False, True]
    assert (second.superseded, third.superseded) == (0, 1)
    assert [finding.rule for finding in third.findings if finding.released] == ["black"]


def test_a_manifest_of_prepared_data_keeps_its_bytes(tmp_path: Path) -> None:
    golden = GOLDEN / "prepared-manifest-1.json"
    manifest = parse(PreparedManifest, read_json(golden), golden.name)
    write_json(tmp_path / "manifest.json", manifest.model_dump(mode="json"))
    # A data version is named by these bytes.
    assert (tmp_path / "manifest.json").read_bytes() == golden.read_bytes()
    # What was prepared before labels were counted is prepared data all the same.
    before = {key: value for key, value in read_json(golden).items() if key != "labels"}
    assert parse(PreparedManifest, before, golden.name).labels == {}


def test_a_release_from_quarantine_of_the_first_version_is_its_only_decision() -> None:
    release = parse(Release, read_json(GOLDEN / "release-1.json"), "release-1.json")
    assert (release.rules, release.reason("black")) == (["black"], "the lamp was off on purpose")
