"""What `posa train` and `posa evaluate sim` find in their folder again is of this code, or it is not taken for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from packed_data import packed
from untrained import arm_params, untrained_bundle

from posa_vla.cli.evaluate import sim
from posa_vla.cli.train import train
from posa_vla.errors import BadInput


@pytest.fixture
def params(tmp_path: Path) -> Path:
    quick = {"steps": 2, "anchor_only_steps": 1, "batch": 4, "warmup_steps": 1, "checkpoint_steps": 2, "workers": 1}
    short = {"episodes": 1, "objects": 1, "max_steps": 2, "videos": 0}
    values = arm_params(train=quick, evaluate=short).model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "params.yaml"


def other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posa_vla.code_digest.code_digest", lambda *roots: "f" * 64)


def test_a_training_by_other_code_is_not_continued(
    tmp_path: Path, params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        train(data=data, out=tmp_path / "out", local=True, params_file=params, as_json=True)

    data = packed(tmp_path / "data")
    run()
    run()
    other_code(monkeypatch)
    with pytest.raises(BadInput, match="by other code"):
        run()


def test_rollouts_by_other_code_are_not_taken_for_this_ones(
    tmp_path: Path, params: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        sim(policy=bundle.folder, out=tmp_path / "out", local=True, params_file=params, as_json=True)
        assert json.loads(capsys.readouterr().out)["as_judged"] is None, "its bundle does not say how it is run"
        return len({path.parent for path in (tmp_path / "out" / "evaluations").rglob("*.json")})

    bundle = untrained_bundle(tmp_path / "policy", arm_params())
    once = run()
    assert run() == once
    other_code(monkeypatch)
    assert run() == 2 * once
