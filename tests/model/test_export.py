"""Exported programs act as their policies do, without this package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from packed_data import observation, packed
from safetensors.torch import load_file, save_file
from tiny_checkpoints import save_tiny_clip, save_tiny_dino

from posa_vla.cli.main import main
from posa_vla.errors import BadInput, PosaError
from posa_vla.files import read_json, sha256_file
from posa_vla.model import export
from posa_vla.model.export import ExportCard, export_policy
from posa_vla.model.posa_policy import initial_policy_files, load_policy
from posa_vla.params import Params
from posa_vla.params_file import load_params
from posa_vla.release.bundle import build_bundle

PARAMS = Path(__file__).parents[2] / "params.yaml"
SMALL = ("model.grid=8", "model.width=16", "model.flow_layers=1", "model.flow_width=16", "model.flow_heads=2")
STEPS = "model.flow_steps=2"


def written(folder: Path, params: Params) -> Path:
    """The files of a policy with random weights, the head's among them: a fresh one is zero."""
    (files := folder / "policy").mkdir()
    initial_policy_files(packed(folder / "data"), params, files, seed=1)
    weights, generator = load_file(files / "model.safetensors"), torch.Generator().manual_seed(0)
    for name, value in weights.items():
        if name.startswith("flow.") and not value.any():
            weights[name] = torch.randn(value.shape, generator=generator) * 0.1
    save_file(weights, files / "model.safetensors")
    return files


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("small"), load_params(PARAMS, "small", [*SMALL, STEPS]))


@pytest.fixture(scope="module")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportCard]:
    out = tmp_path_factory.mktemp("exported") / "new" / "policy.pt2"
    return out, export_policy(load_policy(small, "d" * 64), small, out)


def test_a_program_read_back_acts_as_the_policy_on_any_batch(small: Path, exported: tuple[Path, ExportCard]) -> None:
    policy, (out, card) = load_policy(small, "d" * 64), exported
    assert read_json(out.with_suffix(".json")) == card.model_dump(mode="json")
    assert card.program_sha256 == sha256_file(out)
    assert card.tokenizer == {"file": "tokenizer.json", "sha256": sha256_file(small / "tokenizer.json")}
    assert card.batch is None
    assert card.cameras == ["head", "wrist"]
    assert [tensor.name for tensor in card.inputs] == ["images.head", "images.wrist", "state", "tokens", "noise"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["policy.json", "policy.pt2"]

    program = torch.export.load(out).module()
    for count in (1, 5):
        seen = [observation(instruction=text) for text in ("lift the cup", "a", "b c", "d", "e")[:count]]
        expected = policy.act(seen, seed=3).actions
        images = {role: torch.from_numpy(np.stack([o.images[role] for o in seen])) for role in card.cameras}
        tokens = policy.network[0].tokenizer([o.instruction for o in seen])
        noise = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
        actions = program(images, torch.from_numpy(np.stack([o.state for o in seen])), tokens, noise)
        np.testing.assert_allclose(actions.numpy(), expected, atol=1e-5)
    assert np.ptp(expected, axis=1).max() > 0.01


def test_the_paper_s_encoders_are_exported_too(tmp_path: Path) -> None:
    save_tiny_clip(tmp_path / "clip")
    save_tiny_dino(tmp_path / "dino")
    encoders = [f"model.encoders.{name}={tmp_path / name}" for name in ("clip", "dino")]
    head = ["model.width=16", "model.flow_layers=1", "model.flow_width=32", "model.horizon=4", STEPS]
    sizes = ["prepare.image_size=32", "collect.image_size=32"]
    files = written(tmp_path, load_params(PARAMS, "paper", [*encoders, *head, *sizes]))
    card = export_policy(load_policy(files, "d" * 64), files, tmp_path / "out" / "paper.pt2")
    assert card.largest_difference <= card.tolerance
    assert card.longest == 24
    assert card.batch is None


def test_the_command_takes_a_bundle_and_a_fixed_batch(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = build_bundle(small, tmp_path / "bundles")
    arguments = ["export", "--policy", str(bundle.folder), "--out", str(tmp_path / "p.pt2"), "--batch", "2"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    card = read_json(tmp_path / "p.json")
    assert card["bundle"] == bundle.digest
    assert card["batch"] == 2
    assert card["inputs"][2]["shape"] == [2, 3]

    (bundle.folder / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    assert "it was changed" in capsys.readouterr().err


def test_a_folder_without_a_policy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", "--policy", str(tmp_path), "--out", str(tmp_path / "out" / "p.pt2")])
    assert stop.value.code == 2
    assert "holds no policy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_place_that_a_program_cannot_have_is_named(small: Path, tmp_path: Path) -> None:
    policy = load_policy(small, "d" * 64)
    with pytest.raises(BadInput, match=r"expected a file that ends in '\.pt2'"):
        export_policy(policy, small, tmp_path / "policy.onnx")
    with pytest.raises(BadInput, match="choose another place"):
        export_policy(policy, small, small / "policy.pt2")


def test_the_command_never_writes_into_the_policy_that_it_exports(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in small.iterdir()}
    for out in (small / "config.pt2", small / "new" / "p.pt2"):
        with pytest.raises(SystemExit) as stop:
            main(["export", "--policy", str(small), "--out", str(out)])
        assert stop.value.code == 2
        assert "choose another place" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before


def test_a_program_that_acts_otherwise_is_refused_and_nothing_stays(
    small: Path, exported: tuple[Path, ExportCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = torch.export.load(exported[0])  # tracing it again costs seconds
    monkeypatch.setattr(export, "_traced", lambda inference, policy, batch: (program, batch))
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(PosaError, match="differ from the policy's"):
        export_policy(load_policy(small, "d" * 64), small, tmp_path / "p.pt2", 1)
    assert not list(tmp_path.iterdir())
