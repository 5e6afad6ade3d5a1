"""The paper's encoders, loaded by `transformers` from small checkpoints that are made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_data import observation, packed
from safetensors.torch import load_file
from tiny_checkpoints import save_tiny_clip, save_tiny_dino

from posa_vla.errors import BadInput
from posa_vla.model.build import new_model, read_prepared, trained_state
from posa_vla.model.posa_policy import load_policy, write_policy_files
from posa_vla.params import Params
from posa_vla.params_file import load_params
from posa_vla.training.loop import Trainer, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_tiny_clip(folder / "clip")
    save_tiny_dino(folder / "dino")
    return folder


def paper(checkpoints: Path, *settings: str) -> Params:
    """Preset `paper` with small checkpoints and a small head, few steps."""
    return load_params(
        ROOT / "params.yaml",
        "paper",
        [
            f"model.encoders.clip={checkpoints / 'clip'}",
            f"model.encoders.dino={checkpoints / 'dino'}",
            *("prepare.image_size=32", "collect.image_size=32", "model.width=16", "model.flow_layers=1"),
            *("model.flow_width=32", "model.horizon=4", "model.flow_steps=2"),
            *("train.steps=4", "train.anchor_only_steps=1", "train.batch=4", "train.checkpoint_steps=2"),
            *("train.precision=fp32", *settings),
        ],
    )


@pytest.mark.parametrize(
    "variant", [{}, {"tuning": "lora", "lora_rank": 2}, {"tuning": "full"}, {"dense": "clip"}], ids=str
)
def test_the_paper_preset_trains_and_its_bundle_needs_no_hub(
    checkpoints: Path, tmp_path: Path, variant: dict[str, Any]
) -> None:
    params = paper(checkpoints, *(f"model.encoders.{name}={value}" for name, value in variant.items()))
    data = packed(tmp_path / "data")
    trainer = Trainer(data, params)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    losses = [trainer.advance() for _ in range(4)][-1]
    assert losses is not None
    assert all(np.isfinite(value) for value in losses.values())
    moved = {n for n, value in trainer.model.state_dict().items() if not torch.equal(before[n], value)}
    encoder = {name for name in moved if "_model." in name or ".dino." in name}
    assert "attention.bias" in moved
    match variant.get("tuning", "frozen"):
        case "frozen":
            assert not encoder
        case "lora":
            assert encoder
            assert all(name.endswith((".up", ".down")) for name in encoder)
        case "full":
            assert any("text_model" in name for name in encoder)
            assert any("vision_model" in name for name in encoder)

    (folder := tmp_path / "policy").mkdir()
    write_policy_files(trainer.embodiment, trainer.normalisation, trainer.model, folder)
    assert not [name for name in load_file(folder / "model.safetensors") if "parametrizations" in name]
    policy = load_policy(folder, "d")  # from the folder alone
    seen = observation(size=32)
    expected = trainer.model.eval().encode(
        {role: torch.from_numpy(image)[None] for role, image in seen.images.items()},
        trainer.state_units(torch.from_numpy(seen.state)[None]),
        [seen.instruction],
    )
    chunk = policy.act([seen], attention=True)
    assert chunk.actions.shape == (1, 4, 2)
    assert chunk.attention is not None
    assert chunk.cross_attention is not None
    assert chunk.attention["head"].shape == (1, 2, 4, 4)
    assert chunk.cross_attention["head"].shape[1:] == (4, 4)
    np.testing.assert_allclose(chunk.attention["head"], expected.anchors.maps[:, 0].detach().numpy(), atol=1e-5)


def test_frozen_weights_are_in_the_bundle_and_not_in_the_checkpoints(checkpoints: Path, tmp_path: Path) -> None:
    params = paper(checkpoints)
    data = packed(tmp_path / "data")
    train(data, paper(checkpoints, "train.steps=2"), tmp_path / "short")
    policy = train(data, params, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "checkpoints" / "step-00000002" / "state.safetensors")
    assert not [name for name in saved if "text_model" in name]
    whole = load_file(policy / "model.safetensors")
    original = load_file(checkpoints / "clip" / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(whole[f"vision.{name}"], original[name])


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(checkpoints: Path, tmp_path: Path) -> None:
    params = paper(checkpoints, "model.encoders.tuning=lora")
    data = packed(tmp_path / "data")
    whole, first, second = (Trainer(data, params) for _ in range(3))
    for _ in range(4):
        whole.advance()
    first.advance()
    first.advance()
    first.save(tmp_path)
    second.restore(tmp_path)
    second.advance()
    second.advance()
    for name, value in trained_state(whole.model).items():
        assert torch.equal(value, trained_state(second.model)[name]), name


def test_projections_start_as_clip_s_own_where_the_widths_agree(checkpoints: Path, tmp_path: Path) -> None:
    model = new_model(read_prepared(packed(tmp_path / "data")), paper(checkpoints), 0)
    original = load_file(checkpoints / "clip" / "model.safetensors")
    assert torch.equal(model.vision.project.weight, original["visual_projection.weight"])
    assert torch.equal(model.language.project.weight, original["text_projection.weight"])


def test_padding_and_case_do_not_change_a_text(checkpoints: Path, tmp_path: Path) -> None:
    model = new_model(read_prepared(packed(tmp_path / "data")), paper(checkpoints), 0)
    alone = model.texts(["pick up the red cube"])[0]
    beside = model.texts(["Pick up the RED cube", "a much longer text that makes every other one be padded" * 3])[0]
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"clip": "dino"}, "expected a 'clip'"),
        ({"dino": "clip"}, "expected a 'dinov2'"),
        ({"clip": "empty"}, "CLIP cannot be loaded from folder"),
        ({"dino": "cut"}, "DINOv2 cannot be loaded from folder"),
        ({"dino": "pickled"}, "safetensors"),
        ({"dino": "odd"}, "DINOv2 cannot be loaded from folder"),
    ],
)
def test_what_is_no_such_encoder_is_named(checkpoints: Path, tmp_path: Path, where: dict[str, str], words: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("cut", "pickled", "odd"):
        save_tiny_dino(tmp_path / name)
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "hidden_size": "x"}))
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    settings = [
        f"model.encoders.{key}={tmp_path / name if (tmp_path / name).exists() else checkpoints / name}"
        for key, name in where.items()
    ]
    with pytest.raises(BadInput, match=words):
        new_model(read_prepared(packed(tmp_path / "data")), paper(checkpoints, *settings), 0)


def test_a_hub_that_cannot_be_reached_is_named(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    params = paper(checkpoints, "model.encoders.clip=openai/clip-vit-base-patch16")
    with pytest.raises(BadInput, match=r"'openai/clip-vit-base-patch16' at revision '57c21647"):
        new_model(read_prepared(packed(tmp_path / "data")), params, 0)
